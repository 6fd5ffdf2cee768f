from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest

from workers.dev.scenario import HERE, example_jobs, trickle_jobs, unique


@pytest.mark.parametrize(
    ("job_id", "expected"),
    [
        ("p0w3k9zz18ab", "p0w3k9zz18ab-r1"),
        ("k3j9x0ab12cd:reset-password", "k3j9x0ab12cd:reset-password:r1"),
        ("a:b:c", "a:b:c-r1"),
    ],
)
def test_ids_become_unique_and_stay_acceptable_to_bullmq(job_id: str, expected: str) -> None:
    assert unique(job_id, "r1") == expected
    assert expected.count(":") in (0, 2)


def test_example_jobs_are_those_of_the_queues_with_ids_of_the_run() -> None:
    written = [job for job in json.loads((HERE / "example_jobs.json").read_text()) if job["queue"] == "email-send"]
    jobs = list(example_jobs({"email-send"}, "r1"))
    assert [job.data["id"] for job in jobs] == ["k3j9x0ab12cd:reset-password:r1", "p0w3k9zz18ab-r1"]
    for job, before in zip(jobs, written, strict=True):
        assert job.opts == {**before["opts"], "jobId": job.data["id"]}
        assert job.data == {**before["data"], "id": job.data["id"]}
        assert (job.queue, job.name) == ("email-send", "email-send")


def test_example_job_without_id_keeps_counting_by_redis() -> None:
    [job] = example_jobs({"push-notification"}, "r1")
    assert "jobId" not in job.opts


def test_trickle_goes_round_with_numbers_and_unique_ids() -> None:
    jobs = list(islice(trickle_jobs({"email-send"}, "r1"), 24))
    assert len({job.opts["jobId"] for job in jobs}) == 24
    assert all("{" not in json.dumps([job.data["id"], job.data["to"], job.data["subject"]]) for job in jobs)
    assert jobs[0].data["to"] == ["user1@example.com"]
    assert jobs[8].data["to"] == ["user9@example.com"]
    assert all(job.opts["attempts"] == 5 for job in jobs)
    assert all(job.opts["jobId"].count(":") in (0, 2) for job in jobs)


def test_trickle_shows_success_retry_partial_refusal_delay_and_failure() -> None:
    kinds: Counter[str] = Counter()
    for job in islice(trickle_jobs({"email-send"}, "r1"), 8):
        to = job.data["to"]
        kinds["retried"] += any("retry" in one for one in to)
        kinds["failed"] += all("bounce" in one for one in to)
        kinds["partial"] += len({"bounce" in one for one in to}) == 2
        kinds["delayed"] += "delay" in job.opts
    assert kinds == {"retried": 2, "failed": 1, "partial": 1, "delayed": 1}


def test_queues_without_jobs_get_none() -> None:
    assert list(trickle_jobs({"no-such-queue"}, "r1")) == []
    assert list(example_jobs(set(), "r1")) == []

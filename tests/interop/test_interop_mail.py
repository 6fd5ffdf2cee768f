"""Node adds e-mail jobs, Fleet delivers them, Node reads what became of them."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.interop.conftest import Node, examples
from workers.broker.events import JobCompleted
from workers.dev.catcher import MailCatcher

pytestmark = pytest.mark.node


def mail(job_id: str, to: list[str], **opts: Any) -> dict[str, Any]:
    data = {"type": "email-send", "id": job_id, "to": to, "subject": f"About {job_id}", "text": "hello"}
    return {"queue": "email-send", "name": "email-send", "data": data, "opts": {"jobId": job_id, **opts}}


async def test_node_gets_the_result_of_its_fixtures(
    node: Node, bullmq: int, start_fleet: Callable[..., Any], mails: MailCatcher, tmp_path: Path
) -> None:
    await start_fleet()
    jobs = examples("email-send")
    if bullmq == 6:  # npm bullmq 6 refuses a colon in a custom id, which 5.53.2 lets through
        for job in jobs:
            job["opts"]["jobId"] = job["opts"]["jobId"].replace(":", "-")
    lines = await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, jobs)
    results = {line["id"]: line for line in lines if "status" in line}
    assert set(results) == {job["opts"]["jobId"] for job in jobs}
    for job in jobs:
        outcome = results[job["opts"]["jobId"]]
        assert outcome["status"] == "completed"
        assert outcome["result"]["success"] is True
        assert outcome["result"]["info"]["accepted"] == job["data"]["to"]
        assert outcome["result"]["info"]["rejected"] == []
    messages = [message_from_bytes(p.read_bytes(), policy=policy.default) for p in (tmp_path / "mails").glob("*.eml")]
    assert {m["Subject"] for m in messages} == {job["data"]["subject"] for job in jobs}
    assert {m["To"] for m in messages} == {", ".join(job["data"]["to"]) for job in jobs}


async def test_node_sees_states_attempts_worker_and_reason(
    node: Node, bullmq: int, start_fleet: Callable[..., Any]
) -> None:
    await start_fleet()
    jobs = [
        mail("fine", ["a@example.com"]),
        mail("later", ["retry1@example.com"]),
        mail("never", ["bounce@example.com"]),
    ]
    jobs.append({"queue": "email-send", "name": "email-send", "data": {"type": "email-send", "id": "bad", "to": [7]}})
    await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, jobs)
    lines = await node.run("getters.mjs", {"bullmq": bullmq, "queue": "email-send"})
    seen = {line["job"]["data"]["id"]: line["job"] for line in lines if "job" in line}
    assert {name: (job["state"], job["attemptsMade"]) for name, job in seen.items()} == {
        "fine": ("completed", 1),
        "later": ("completed", 2),
        "never": ("failed", 1),
        "bad": ("failed", 1),
    }
    assert "550" in seen["never"]["failedReason"]
    assert seen["never"]["stacktrace"]
    assert "data.to.0: expected a string, found 7" in seen["bad"]["failedReason"]
    assert seen["later"]["stacktrace"]
    (workers,) = [line["workers"] for line in lines if "workers" in line]
    assert any("fleet-0" in name for name in workers), "Node's getWorkers lists the worker"
    if bullmq == 6:
        assert seen["fine"]["processedBy"].startswith("fleet-0@")
    (counts,) = [line["counts"] for line in lines if "counts" in line]
    assert (counts["completed"], counts["failed"], counts["active"]) == (2, 2, 0)


async def test_node_hears_of_the_failure(node: Node, bullmq: int, start_fleet: Callable[..., Any]) -> None:
    await start_fleet()
    lines = await node.run("add.mjs", {"bullmq": bullmq, "wait": True}, [mail("x", ["bounce@example.com"])])
    assert [line["status"] for line in lines if "status" in line] == ["failed"]
    assert "550" in lines[-1]["reason"]


async def test_delay_priority_and_removal_of_node_are_honoured(
    node: Node, bullmq: int, start_fleet: Callable[..., Any]
) -> None:
    jobs = [
        mail("low", ["a@example.com"], priority=10),
        mail("high", ["a@example.com"], priority=1),
        mail("gone", ["a@example.com"], removeOnComplete=True),
        mail("in300", ["a@example.com"], delay=300),
    ]
    await node.run("add.mjs", {"bullmq": bullmq}, jobs)
    running = await start_fleet("queues.email-send.concurrency=1")

    def done() -> list[str]:
        return [event.job_id for event in running.events if isinstance(event, JobCompleted)]

    await wait_until(lambda: len(done()) == 4)
    assert [job for job in done() if job != "in300"] == ["gone", "high", "low"]
    lines = await node.run("getters.mjs", {"bullmq": bullmq, "queue": "email-send", "ids": ["gone", "in300"]})
    assert lines[0] == {"job": None, "id": "gone"}
    job = lines[1]["job"]
    assert 300 <= job["processedOn"] - job["timestamp"] < 1000  # in milliseconds, not rounded up to a second

"""What follows a job that has failed for good, through worker and executor on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tasks.base import Task
from tasks.email_send import EmailSend
from tests.conftest import Server, wait_until
from tests.integration.runtime.process_rig import MAIL, NOTES, Fleet, Wave, jobs_of, raises
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobEvent, JobFailed, JobRetrying, WorkerError
from workers.contract import FinalFailure, RateLimitError, UserError
from workers.runtime.failure_note import NEUTRAL


@pytest.fixture
async def fleet(endpoint: Endpoint) -> AsyncIterator[Fleet]:
    fleet = Fleet(endpoint)
    yield fleet
    await fleet.stop()


@pytest.fixture
async def mails(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("email-send", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def test_last_attempt_is_followed_once_and_those_before_are_not(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str
) -> None:
    await fleet.serve(raises(RateLimitError("429 from 10.0.0.7")), attempts=3)
    await mails.add("email-send", MAIL, {"jobId": "m1"})
    await wait_until(lambda: fleet.of(JobFailed))
    notes: Any = await wait_until(lambda: jobs_of(redis, prefix, NOTES))
    assert [(type(e), e.attempt, e.failure) for e in fleet.of(JobEvent) if hasattr(e, "failure")] == [
        (JobRetrying, 1, "rate-limited"),
        (JobRetrying, 2, "rate-limited"),
        (JobFailed, 3, "rate-limited"),
    ]
    data = notes[0]["data"]
    assert data["id"].isdigit() and notes[0]["id"].startswith("failed-")
    assert {key: value for key, value in data.items() if key != "id"} == {
        "type": NOTES,
        "userId": "614",
        "category": "SystemAlert",
        "title": "Your task 'email send' failed",
        "description": NEUTRAL,
        "sendWebSocketEvent": True,
    }
    assert notes[0]["opts"]["removeOnComplete"] == {"age": 86_400, "count": 5000}
    assert fleet.of(WorkerError) == []


async def test_same_failure_told_twice_is_one_job(fleet: Fleet, mails: Any, redis: Redis, prefix: str) -> None:
    worker = await fleet.serve(raises(UserError("no")))
    told = worker._run._on_failed
    assert told is not None

    def twice(*about: Any) -> None:
        told(*about)
        told(*about)

    worker._run._on_failed = twice
    await mails.add("email-send", MAIL, {"jobId": "m1"})
    await wait_until(lambda: fleet.of(JobFailed))
    await fleet.aftermath.close(5.0)
    assert len(await jobs_of(redis, prefix, NOTES)) == 1
    events: Any = await redis.xrange(f"{prefix}:{NOTES}:events")
    assert [fields["event"] for _, fields in events].count("duplicated") == 1


async def test_module_says_what_follows(fleet: Fleet, mails: Any, redis: Redis, prefix: str) -> None:
    def hook(task: EmailSend, failure: FinalFailure) -> Task | None:
        return Wave(id="after", height=failure.attempts) if task.subject == "S" else None

    await fleet.serve(raises(ValueError("no")), on_failed=hook, attempts=2)
    await mails.addBulk([{"name": "n", "data": {**MAIL, "subject": subject}, "opts": {}} for subject in ("x", "S")])
    await wait_until(lambda: len(fleet.of(JobFailed)) == 2)
    waves: Any = await wait_until(lambda: jobs_of(redis, prefix, "wave"))
    assert waves[0]["data"] == {"type": "wave", "id": "after", "height": 2}
    assert not await redis.exists(f"{prefix}:{NOTES}:wait")


@pytest.mark.parametrize(
    ("fields", "failure"),
    [({"defa": "job stalled more than allowable limit"}, "crashed"), ({"ats": 9}, "permanent")],
)
async def test_job_that_fails_without_a_run_is_followed_too(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str, fields: Any, failure: str
) -> None:
    await mails.add("email-send", MAIL, {"jobId": "m1", "delay": 60_000})
    await redis.hset(f"{prefix}:email-send:m1", mapping=fields)
    await fleet.serve(raises(AssertionError("must not run")), max_starts=5)
    await mails.promoteJobs()
    await wait_until(lambda: jobs_of(redis, prefix, NOTES))
    assert [(e.failure, e.error) for e in fleet.of(JobFailed)] == [
        (failure, "Deferred" if "defa" in fields else "StartedTooOften")
    ]


async def test_invalid_data_fails_and_is_followed_by_nothing(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str
) -> None:
    await fleet.serve(raises(UserError("no")))
    await mails.add("email-send", {**MAIL, "to": 7}, {"jobId": "bad"})
    await mails.add("email-send", MAIL, {"jobId": "good"})
    await wait_until(lambda: len(fleet.of(JobFailed)) == 2)
    await fleet.aftermath.close(5.0)
    assert len(await jobs_of(redis, prefix, NOTES)) == 1
    assert fleet.of(WorkerError) == []


async def test_hook_that_breaks_costs_neither_the_job_nor_its_slot(
    fleet: Fleet, mails: Any, redis: Redis, prefix: str
) -> None:
    def hook(task: EmailSend, failure: FinalFailure) -> Task:
        raise SystemExit

    worker = await fleet.serve(raises(UserError("no")), on_failed=hook)
    for name in ("a", "b"):
        await mails.add("email-send", MAIL, {"jobId": name})
    await wait_until(lambda: len(fleet.of(WorkerError)) == 2)
    assert [(e.where, e.job_id, type(e.error)) for e in fleet.of(WorkerError)] == [
        ("on_failed", "a", SystemExit),
        ("on_failed", "b", SystemExit),
    ]
    assert await redis.zcard(f"{prefix}:email-send:failed") == 2
    assert worker.health().ok


async def test_note_gets_through_an_outage_that_began_with_the_failure(make_server: Callable[..., Server]) -> None:
    server = make_server("--appendonly", "yes", "--appendfsync", "always")
    fleet = Fleet(Endpoint(url=server.url, command_timeout_s=1.0))
    real = fleet.aftermath._add
    added: list[str] = []

    async def through_an_outage(task: Task, *, as_job: str) -> str:
        if not added:
            server.stop()
        added.append(as_job)
        return await real(task, as_job=as_job)

    fleet.aftermath._add = through_an_outage
    queue = Queue("email-send", {"connection": server.url})
    await queue.add("email-send", MAIL, {})
    await queue.close()
    await fleet.serve(raises(UserError("no")))
    await wait_until(lambda: len(added) >= 3)
    server.start()
    async with Redis.from_url(server.url, decode_responses=True, protocol=2) as redis:
        await wait_until(lambda: jobs_of(redis, "bull", NOTES))
        assert await redis.zcard("bull:email-send:failed") == 1
    assert [e for e in fleet.of(WorkerError) if e.where == "on_failed"] == []
    await fleet.stop()

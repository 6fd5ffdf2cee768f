"""The ladder on a real server: what becomes of the job, what is told of it, and what its later run finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.events import (
    JobActive,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobProgress,
    JobRetrying,
    JobRung,
)
from workers.broker.execution import Execute
from workers.contract import JobContext, retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder, Rung
from workers.runtime.retry import RetryPolicy

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
SOON, NEVER = 0.05, 3600.0

Process = Callable[[Any, JobContext], Awaitable[Any]]


def runs(process: Process, ladder: Ladder, attempts: int = 1) -> Execute:
    plan = Plan(isolation=Inline(process), classify=retry_all, ladder=ladder, retry=RetryPolicy(attempts=attempts))
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
    return Executor({"email-send": plan}, limits).execute


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


def told(events: list[JobEvent]) -> list[Any]:
    return [event.rung if isinstance(event, JobRung) else type(event) for event in events]


async def test_run_that_pauses_is_set_aside_and_goes_on_from_its_checkpoint(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        if ctx.restored is not None:
            return {"went on from": ctx.restored}
        while True:
            if stop := await ctx.checkpoint({"step": 3}):
                return stop.outcome()
            await asyncio.sleep(SOON / 10)

    ladder = Ladder((Rung(do="pause", at_s=SOON, wait_s=NEVER), Rung(do="kill")))
    made = await make_worker(runs(process, ladder))
    job = await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobDelayed))
    assert told(made.of(JobEvent)) == [JobActive, "pause", JobDelayed]
    assert await redis.zcard(f"{prefix}:q:delayed") == 1
    assert await redis.hget(f"{prefix}:q:{job.id}", "atm") is None  # nothing is spent
    (delayed,) = made.of(JobDelayed)
    assert delayed.delay_s == 30 * 86_400
    assert delayed.reason.startswith("set aside by its ladder after 0.")
    await queue.promoteJobs()
    (completed,) = await wait_until(lambda: made.of(JobCompleted))
    assert completed.result == {"went on from": {"step": 3}}


async def test_failure_says_rung_time_and_progress_and_the_next_attempt_may_do_better(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        if ctx.attempt == 2:
            return "fine"
        await ctx.progress({"status": "processing", "progress": 0.4, "currentStep": "fetch", "key": "hunter2"})
        await asyncio.Event().wait()

    ladder = Ladder(
        (Rung(do="warn", at_s=SOON), Rung(do="stop", at_s=2 * SOON, tries=2, wait_s=SOON), Rung(do="cancel"))
    )
    made = await make_worker(runs(process, ladder, attempts=2))
    job = await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobCompleted))
    first = [event for event in made.of(JobEvent) if event.attempt == 1]
    assert told(first) == [JobActive, JobProgress, "warn", "stop", "stop", "cancel", JobRetrying]
    assert [(rung.rung, rung.attempt_of_rung) for rung in made.of(JobRung)] == [
        ("warn", 1), ("stop", 1), ("stop", 2), ("cancel", 1),
    ]  # fmt: skip
    (retried,) = made.of(JobRetrying)
    assert (retried.error, retried.failure) == ("Timeout", "timed-out")
    assert retried.reason == (
        'timed out after 0.2 s at rung cancel (last progress: progress 0.4, status "processing", currentStep "fetch")'
    )
    assert await redis.hget(f"{prefix}:q:{job.id}", "returnvalue") == '"fine"'


async def test_run_that_stops_when_asked_has_failed_at_that_rung(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        await wait_until(lambda: ctx.stop)
        assert ctx.stop is not None
        return ctx.stop.outcome()

    ladder = Ladder((Rung(do="stop", at_s=SOON, wait_s=NEVER), Rung(do="kill")))
    made = await make_worker(runs(process, ladder))
    job = await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobFailed))
    assert told(made.of(JobEvent)) == [JobActive, "stop", JobFailed]
    assert await redis.hget(f"{prefix}:q:{job.id}", "failedReason") == "timed out after 0.05 s at rung stop"


async def test_time_that_a_job_sets_is_its_own_where_the_queue_lets_it(make_worker: MakeWorker, queue: Any) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        await asyncio.Event().wait()

    made = await make_worker(runs(process, Ladder((Rung(do="cancel", at_s=NEVER),), job_may_set_s=2 * NEVER)))
    await queue.add("n", {**MAIL, "timeout": 50}, {"timeout": 600_000})
    (failed,) = await wait_until(lambda: made.of(JobFailed))
    assert failed.reason == "timed out after 0.05 s at rung cancel"

"""Hazard H14 of the package's worker: listeners that raise whatever there is to raise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.fleet_worker import Served
from tests.integration.broker.processors import MAIL, Unheard, runs
from workers.broker.emitter import Emitter
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, JobActive, JobCompleted, JobFailed, JobStalled, WorkerError
from workers.contract import JobContext


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


class Rude:
    """A listener that raises at every event."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.heard: set[type] = set()

    def __call__(self, event: Event) -> None:
        self.heard.add(type(event))
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        asyncio.CancelledError(),
        Unheard(),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_listener_that_raises_is_counted_and_not_felt(
    endpoint: Endpoint, queue: Any, redis: Redis, prefix: str, error: BaseException
) -> None:
    """H14: with the stock worker a completed job is moved to failed, an active one lost, the stalled check ends."""
    emit, rude, events = Emitter(), Rude(error), list[Event]()
    emit.subscribe(rude)
    emit.subscribe(events.append)

    async def process(task: Any, ctx: JobContext) -> str:
        if ctx.job_id == "fails":
            raise ValueError("the real reason")
        return "fine"

    await queue.add("n", MAIL, {"jobId": "orphan"})
    await redis.rpoplpush(f"{prefix}:q:wait", f"{prefix}:q:active")  # its worker died: the stalled check finds it
    served = Served(
        runs(process), endpoint=endpoint, emit=emit, slots=2, lock_ms=1000, stalled_interval_ms=300, drain_delay_s=1.0
    )

    def ended() -> list[str]:
        return sorted(event.job_id for event in events if isinstance(event, JobCompleted | JobFailed))

    try:
        await served.worker.start()
        for job_id in ("fails", "completes"):
            await queue.add("n", MAIL, {"jobId": job_id})
        await wait_until(lambda: ended() == ["completes", "fails", "orphan"], timeout_s=5)
        served.worker._reports.error(ValueError("anything"), "fetch")
        assert {JobActive, JobCompleted, JobFailed, JobStalled, WorkerError} <= rude.heard
        assert emit.failures >= len(events)
        assert (await redis.hgetall(f"{prefix}:q:fails"))["failedReason"] == "the real reason"
        assert served.worker.health().ok
    finally:
        await served.stop(5)

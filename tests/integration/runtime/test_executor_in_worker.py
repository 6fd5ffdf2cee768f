"""Worker and executor together on a real server: drains against bad manners, a full server, hostile options."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from workers.broker.endpoint import Endpoint
from workers.broker.events import (
    JobActive,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
    WorkerError,
)
from workers.contract import JobContext, retry_all
from workers.runtime import deadline
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
NEVER = 3600.0


def executor(process: Callable[[Any, JobContext], Awaitable[Any]]) -> Executor:
    plan = Plan(
        isolation=Inline(process), classify=retry_all, ladder=Ladder.timeout(NEVER), retry=RetryPolicy(attempts=1)
    )
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
    return Executor({"email-send": plan}, limits)


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


class Deaf:
    """A processor that ignores every cancellation until the test ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.released = asyncio.Event()

    async def __call__(self, task: Any, ctx: JobContext) -> None:
        self.begun += 1
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    processor = Deaf()
    yield processor
    processor.released.set()
    await wait_until(lambda: not deadline._abandoned)


async def handed_back(redis: Redis, prefix: str, job_id: str) -> bool:
    row = await redis.hgetall(f"{prefix}:q:{job_id}")
    waits = await redis.lrange(f"{prefix}:q:wait", 0, -1) == [job_id]
    return waits and (row["ats"], row.get("atm"), row.get("stc")) == ("0", None, None)


async def test_job_of_a_processor_that_ignores_its_cancellation_is_handed_back_in_time(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, deaf: Deaf
) -> None:
    made = await make_worker(executor(deaf).execute)
    job = await queue.add("n", MAIL)
    await wait_until(lambda: deaf.begun)
    await made.worker.stop(by=time.monotonic() + 1)
    assert made.worker.drained
    assert len(made.of(JobHandedBack)) == 1
    assert await handed_back(redis, prefix, job.id)


async def test_second_stop_hands_back_what_the_first_would_have_waited_for(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, deaf: Deaf
) -> None:
    made = await make_worker(executor(deaf).execute)
    job = await queue.add("n", MAIL)
    await wait_until(lambda: deaf.begun)
    first = asyncio.create_task(made.worker.stop(by=time.monotonic() + NEVER))
    await asyncio.sleep(0)
    await asyncio.gather(
        made.worker.stop(by=time.monotonic() + 1), made.worker.stop(by=time.monotonic() + NEVER), first
    )
    assert made.worker.drained
    assert await handed_back(redis, prefix, job.id)


async def test_stop_without_any_time_leaves_the_job_to_the_stalled_check_and_says_so(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, deaf: Deaf
) -> None:
    made = await make_worker(executor(deaf).execute)
    await queue.add("n", MAIL)
    await wait_until(lambda: deaf.begun)
    await made.worker.stop(by=time.monotonic() - 1)
    assert not made.worker.drained
    assert await redis.llen(f"{prefix}:q:active") == 1
    assert await redis.delete(f"{prefix}:q:1:lock") == 1


async def test_job_fetched_while_the_worker_closes_is_handed_back_unstarted(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    begun: list[str] = []

    async def process(task: Any, ctx: JobContext) -> None:
        begun.append(ctx.job_id)

    made = await make_worker(executor(process).execute, drain_delay_s=0.05)
    real = made.worker.backend.fetch
    fetched = asyncio.Event()

    async def slow(token: str) -> Any:
        answer = await real(token)
        if answer.activation is not None:
            made.worker.closing = True
            fetched.set()
        return answer

    made.worker.backend.fetch = slow  # type: ignore[method-assign]
    job = await queue.add("n", MAIL)
    await fetched.wait()
    await made.worker.stop(by=time.monotonic() + 5)
    assert made.worker.drained
    assert begun == []
    assert await handed_back(redis, prefix, job.id)


@pytest.mark.parametrize("attempts", [10**20, -1, "many", True, [3]])
async def test_hostile_attempts_neither_stop_the_job_nor_its_slot(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, attempts: Any
) -> None:
    async def process(task: Any, ctx: JobContext) -> str:
        if ctx.job_id == "bad":
            raise ValueError("no")
        return "fine"

    for job_id in ("bad", "good"):
        await queue.add("n", MAIL, {"jobId": job_id, "delay": 60_000})
        opts = {
            "attempts": attempts,
            "backoff": 60_000,
            "removeOnComplete": attempts,
            "removeOnFail": {"count": 10**30},
        }
        await redis.hset(f"{prefix}:q:{job_id}", "opts", json.dumps(opts))
    made = await make_worker(executor(process).execute)
    await queue.promoteJobs()
    await queue.add("n", MAIL, {"jobId": "after"})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    await wait_until(lambda: made.of(JobRetrying if attempts == 10**20 else JobFailed))
    assert not made.of(JobLost)
    assert made.worker.health().ok
    assert await redis.llen(f"{prefix}:q:active") == 0


@pytest.fixture
def other(make_server: Callable[..., Server]) -> Iterator[Server]:
    yield make_server()


@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),  # a failover
        ("CONFIG SET min-replicas-to-write 3", "CONFIG SET min-replicas-to-write 0"),
    ],
)
async def test_success_on_a_server_that_may_not_write_for_a_while_stays_success(
    make_worker: MakeWorker, other: Server, refuse: str, allow: str
) -> None:
    """The refusal comes from inside the script, and its text looks like that of a broken script."""
    runs = 0

    async def process(task: Any, ctx: JobContext) -> str:
        nonlocal runs
        runs += 1
        await redis.execute_command(*refuse.split())  # type: ignore[no-untyped-call]
        return "delivered"

    async with Redis.from_url(other.url, decode_responses=True, protocol=2) as redis:
        queue = Queue("q", {"connection": other.url})
        job = await queue.add("n", MAIL)
        await queue.close()
        made = await make_worker(executor(process).execute, endpoint=Endpoint(url=other.url))
        await wait_until(lambda: [e for e in made.of(WorkerError) if e.where == "finish"])
        await redis.execute_command(*allow.split())  # type: ignore[no-untyped-call]
        await wait_until(lambda: made.of(JobCompleted))
        assert await redis.hget(f"bull:q:{job.id}", "returnvalue") == '"delivered"'
        assert runs == 1
        assert [type(e) for e in made.of(JobEvent)] == [JobActive, JobCompleted]


async def test_slot_that_is_torn_down_while_it_writes_lets_go_and_says_so(
    make_worker: MakeWorker, other: Server
) -> None:
    async def process(task: Any, ctx: JobContext) -> None:
        other.stop()

    queue = Queue("q", {"connection": other.url})
    await queue.add("n", MAIL)
    await queue.close()
    made = await make_worker(executor(process).execute, endpoint=Endpoint(url=other.url))
    await wait_until(lambda: [e for e in made.of(WorkerError) if e.where == "finish"])
    await asyncio.gather(*(made.worker.stop(by=time.monotonic() + 0.3) for _ in range(2)))
    assert not made.worker.drained
    assert all(slot.task.done() for slot in made.worker._slots)
    await asyncio.wait_for(made.worker.wait(), 20)

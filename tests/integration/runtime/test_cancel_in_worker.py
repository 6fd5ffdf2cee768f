"""Running jobs are cancelled from another process's place: wherever the processor runs, and whatever it does then."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import Made, MakeWorker, wait_until
from tests.hostile.acts import classify
from tests.hostile.rig import KINDS, isolated
from tests.hostile.task import Hostile
from workers.broker import keys
from workers.broker.endings import CANCELLED
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobFailed, JobProgress, WorkerError
from workers.broker.job_acts import JobActs
from workers.queue_service import cancellation
from workers.queue_service.actor import Actor
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

WHY = cancellation.reason_of(Actor("ann"), "a mistake")


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
async def acts(endpoint: Endpoint) -> AsyncIterator[JobActs]:
    client = endpoint.commands()
    yield JobActs(client, endpoint.prefix)
    await client.aclose()


@pytest.fixture
async def serve(make_worker: MakeWorker) -> AsyncIterator[Any]:
    """Starts a worker that looks often, and has little patience."""
    async with AsyncExitStack() as stack:

        async def start(where: str, *, grace_s: float = 0.3, cleanup_s: float = 0.3, slots: int = 2) -> Made:
            isolation = await stack.enter_async_context(isolated(*KINDS[where], slots=slots))
            plan = Plan(
                isolation=isolation,
                classify=classify,
                ladder=Ladder.timeout(3600),
                retry=RetryPolicy(attempts=5),
                task=Hostile,
            )
            limits = Limits(max_data_bytes=10_000_000, unknown_delay_s=30, unknown_give_up_s=3600)
            made = await make_worker(Executor({"hostile": plan}, limits).execute, slots=slots)
            looks = made.worker._cancellations
            looks._look_s, looks._grace_s, looks._cleanup_s = 0.02, grace_s, cleanup_s
            return made

        yield start


async def add(queue: Any, act: str, *, status: str | None = "Running", **args: Any) -> str:
    data: dict[str, Any] = {"type": "hostile", "id": "1", "act": act, "args": args}
    if status is not None:
        data["status"] = status
    return str((await queue.add("n", data, {"attempts": 5})).id)


async def status_of(redis: Redis, prefix: str, job_id: str) -> Any:
    return json.loads(await redis.hget(f"{prefix}:q:{job_id}", "data") or "{}").get("status")


async def cancel(acts: JobActs, job_id: str) -> str:
    (answer,) = await acts.cancel("q", [job_id], WHY, texts=cancellation.texts)
    return answer.word


@pytest.mark.parametrize(
    ("where", "act"),
    [
        *((where, act) for where in KINDS for act in ("waits", "cleans_up")),
        *((where, "ignores_everything") for where in KINDS if where != "async"),  # would never leave this loop
    ],
)
async def test_running_job_is_stopped_and_fails_for_good(
    serve: Any, acts: JobActs, queue: Any, redis: Redis, prefix: str, where: str, act: str
) -> None:
    """`waits` sees that it is asked, and returns: it has completed, which stands. The others are cut off."""
    made = await serve(where)
    job_id = await add(queue, act)
    await wait_until(lambda: made.of(JobProgress))
    assert await cancel(acts, job_id) == "asked"
    ended = await wait_until(lambda: made.of(JobFailed) or made.of(JobCompleted))
    if act == "waits":
        assert ended[0].result == {"kind": "stop", "reason": WHY}
    else:
        assert (ended[0].reason, ended[0].error, ended[0].failure) == (WHY, CANCELLED, "permanent")
        assert await redis.hget(f"{prefix}:q:{job_id}", "failedReason") == WHY
    state, status = ("completed", "Completed") if act == "waits" else ("failed", "Failed")
    assert await queue.getJobState(job_id) == state
    await wait_until(partial(settled, redis, prefix, job_id, status))
    assert len(made.of(JobActive)) == 1, "no attempt follows"
    assert not made.of(WorkerError)


async def settled(redis: Redis, prefix: str, job_id: str, status: str) -> Any:
    left = await redis.exists(keys.cancellation(prefix, "q", job_id))
    return not left and await status_of(redis, prefix, job_id) == status


async def test_job_shows_that_it_is_being_cancelled_until_it_is(
    serve: Any, acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    made = await serve("async", grace_s=3600)
    job_id = await add(queue, "cleans_up", status=None)
    await wait_until(lambda: made.of(JobProgress))
    await cancel(acts, job_id)
    assert await status_of(redis, prefix, job_id) == "Canceling"
    (hold,) = await wait_until(lambda: [hold for hold in made.worker._leases.holds if hold.cancelled])
    assert await cancel(acts, job_id) == "asked", "twice does no harm"
    await made.worker.stop(by=time.monotonic() + 1)
    assert hold.interrupt is not None and hold.interrupt.kind == "cancel", "a drain only hurries it"
    (failed,) = made.of(JobFailed)
    assert failed.reason == WHY
    assert await status_of(redis, prefix, job_id) == "Failed"


@pytest.mark.parametrize("status", ["Canceling", "suggested"])
async def test_job_whose_status_asks_to_stop_ends_without_a_run(
    serve: Any, queue: Any, redis: Redis, prefix: str, status: str
) -> None:
    made = await serve("async")
    job_id = await add(queue, "echo", status=status, value=1)
    (failed,) = await wait_until(lambda: made.of(JobFailed))
    said = "Canceling" if status == "Canceling" else "Suggested"
    assert failed.reason == f"cancelled before it ran: its data.status was {said}"
    assert failed.error == CANCELLED
    assert await queue.getJobState(job_id) == "failed"
    await made.worker.stop(by=time.monotonic() + 5)
    assert await status_of(redis, prefix, job_id) == ("Failed" if status == "Canceling" else "suggested")


async def test_cancelled_job_runs_again_when_it_is_retried(
    serve: Any, acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    made = await serve("async")
    job_id = await add(queue, "echo", status="Canceling", value=5)
    await wait_until(lambda: made.of(JobFailed))
    (answer,) = await acts.retry("q", [job_id])
    assert answer.word == "ok"
    (completed,) = await wait_until(lambda: made.of(JobCompleted))
    assert completed.result == 5


async def test_request_for_an_older_job_of_the_same_id_is_not_heeded(
    serve: Any, queue: Any, redis: Redis, prefix: str
) -> None:
    old = json.dumps({"job": "1", "reason": "no", "at_ms": 1})
    made = await serve("async")
    job_id = await add(queue, "cleans_up")
    await redis.set(keys.cancellation(prefix, "q", job_id), old)
    await wait_until(lambda: made.of(JobProgress))
    looks = await looked(redis)
    await wait_until(partial(has_looked, redis, looks + 3))
    assert not any(hold.cancelled for hold in made.worker._leases.holds)
    await redis.set(keys.cancellation(prefix, "q", job_id), "rubbish")
    await wait_until(partial(has_looked, redis, looks + 6))
    assert not made.of(WorkerError) and made.worker._leases.holds
    await made.worker.stop(by=time.monotonic() + 1)


async def looked(redis: Redis) -> int:
    calls: int = (await redis.info("commandstats")).get("cmdstat_mget", {}).get("calls", 0)
    return calls


async def has_looked(redis: Redis, times: int) -> Any:
    return await looked(redis) >= times

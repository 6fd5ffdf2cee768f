"""What a worker tells its listeners, and how many commands a job costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.activation import Activation
from workers.broker.emitter import Emitter
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, JobCompleted, JobFailed, JobProgress, QueueDrained, QueuePaused, WorkerState
from workers.broker.hold import Hold


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def scripts_run(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))


@pytest.mark.parametrize("ends", ["completed", "failed"])
@pytest.mark.parametrize("slots", [1, 10])
async def test_job_under_load_costs_one_script(
    make_worker: MakeWorker, queue: Any, redis: Redis, ends: str, slots: int
) -> None:
    """The stock worker runs two a job, one after the other: its fetch-next is off."""

    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result=None) if ends == "completed" else Failed(reason="no", error="E")

    jobs = 200
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(jobs)])
    before = await scripts_run(redis)
    made = await make_worker(work, slots=slots, lock_ms=60_000)
    await wait_until(lambda: len(made.of(JobCompleted)) + len(made.of(JobFailed)) == jobs)
    # one fetch a slot at the beginning and one at the end, and the stalled check
    assert await scripts_run(redis) - before <= jobs + 2 * slots + 5


async def test_idle_worker_of_many_slots_costs_no_more_than_one(
    make_worker: MakeWorker, queue: Any, redis: Redis
) -> None:
    """The stock worker made 166 script calls a job at light load with 100 slots, Node's 4."""
    made = await make_worker(slots=100, lock_ms=60_000, drain_delay_s=5)
    await wait_until(lambda: made.of(QueueDrained))
    before = await scripts_run(redis)
    jobs = 20
    for _ in range(jobs):
        done = len(made.of(JobCompleted))
        await queue.add("n", {})
        await wait_until(lambda: len(made.of(JobCompleted)) > done)  # noqa: B023 - awaited at once
    assert await scripts_run(redis) - before <= jobs * 5 + 5  # one of them is the add


async def test_limited_worker_waits_instead_of_asking_all_the_time(
    make_worker: MakeWorker, queue: Any, redis: Redis
) -> None:
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(3)])
    before = await scripts_run(redis)
    made = await make_worker(slots=5, limiter={"max": 1, "duration": 300}, lock_ms=60_000)
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)
    assert await scripts_run(redis) - before <= 20


async def test_drained_is_told_once_until_there_is_something_again(make_worker: MakeWorker, queue: Any) -> None:
    made = await make_worker(slots=3, drain_delay_s=0.05)
    await wait_until(lambda: made.of(QueueDrained))
    await asyncio.sleep(0.3)
    assert made.of(QueueDrained) == [QueueDrained(queue="q")]
    await queue.add("n", {})
    await wait_until(lambda: len(made.of(QueueDrained)) == 2)
    assert made.of(JobCompleted)


async def test_progress_is_told_beside_its_event_in_redis(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.progress(50)
        await hold.progress({"page": 2})
        return Completed(result=None)

    made = await make_worker(work)
    job = await queue.add("n", {})
    await wait_until(lambda: made.of(JobCompleted))
    assert [(event.job_id, event.value) for event in made.of(JobProgress)] == [(job.id, 50), (job.id, {"page": 2})]
    stream: Any = await redis.xrange(f"{prefix}:q:events")
    stored = [fields["data"] for _, fields in stream if fields["event"] == "progress"]
    assert stored == ["50", '{"page":2}']


async def test_ready_closing_and_closed_are_told_in_order(make_worker: MakeWorker) -> None:
    made = await make_worker(slots=2)
    await made.worker.stop(by=time.monotonic() + 2)
    assert [(event.state, event.slots) for event in made.of(WorkerState)] == [
        ("running", 2),
        ("draining", 2),
        ("closed", 2),
    ]


async def test_asynchronous_listener_of_a_worker_hears_all_of_a_job(
    make_worker: MakeWorker, queue: Any, endpoint: Endpoint
) -> None:
    heard: list[str] = []

    async def listen(event: Event) -> None:
        await asyncio.sleep(0)
        heard.append(type(event).__name__)

    emit = Emitter()
    emit.subscribe(listen)
    made = await make_worker()
    made.worker._reports.emit = emit
    await queue.add("n", {})
    await wait_until(lambda: "JobCompleted" in heard)
    assert [name for name in heard if name.startswith("Job")] == ["JobActive", "JobCompleted"]
    made.worker._reports.emit = made.events.append
    await emit.close(1)
    assert emit.failures == 0


async def test_pause_for_everyone_is_told_and_seen_in_health(
    make_worker: MakeWorker, redis_url: str, prefix: str
) -> None:
    """What a shutdown of the Node stack leaves behind; workers would idle without a word."""
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    await queue.pause()
    made = await make_worker(pause_look_s=0.05)
    await wait_until(lambda: made.of(QueuePaused))
    assert made.worker.health().ok
    assert "queue.resume()" in made.worker.health().detail
    await queue.add("n", {})
    await queue.resume()
    await wait_until(lambda: made.of(JobCompleted))
    await wait_until(lambda: len(made.of(QueuePaused)) == 2)
    assert [event.paused for event in made.of(QueuePaused)] == [True, False]
    await queue.close()

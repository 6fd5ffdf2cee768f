"""Limits of a queue: its own concurrency, a rate, and a limit set by hand. Nobody waits longer than they say."""

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
from workers.broker.endings import AwaitingChildren, Completed, Ending, RateLimited
from workers.broker.events import JobActive, JobCompleted, JobDelayed, JobHandedBack, QueueDrained, WorkerError
from workers.broker.hold import Hold
from workers.broker.numbers import MAX_SAFE

#: The longest block. Nobody here waits half as long: who waits it out, instead of being woken, fails.
IDLE_S, SOON_S = 10.0, 5.0


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def add(queue: Any, *ids: str, **opts: Any) -> None:
    for job_id in ids:
        await queue.add("n", {}, {"jobId": job_id, **opts})


class Work:
    """An execution that notes when each run began."""

    def __init__(self, *, takes_s: float = 0.0, limits: dict[str, int] | None = None) -> None:
        self.takes_s = takes_s
        self.limits = dict(limits or {})
        """Job id → ms of the limit that its first run meets."""
        self.takes_longer: dict[str, float] = {}
        self.began: list[tuple[str, float]] = []
        self.running = self.peak = 0

    async def __call__(self, job: Activation, hold: Hold) -> Ending:
        self.began.append((job.id, time.monotonic()))
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(self.takes_longer.get(job.id, self.takes_s))
        self.running -= 1
        if ms := self.limits.pop(job.id, 0):
            return RateLimited(delay_ms=ms, reason="429")
        return Completed(result=None)

    @property
    def ids(self) -> list[str]:
        return [job_id for job_id, _ in self.began]

    def at(self, index: int) -> float:
        """Seconds from the first run to this one."""
        return self.began[index][1] - self.began[0][1]


# --------------------------------------------------------- the queue's concurrency


async def test_full_queue_goes_on_when_a_job_ends_and_not_when_the_block_does(
    make_worker: MakeWorker, queue: Any
) -> None:
    """The stock worker took 10.2 s for these three jobs, Node's 0.61 s."""
    await queue.setGlobalConcurrency(1)
    await add(queue, "a", "b", "c")
    work = Work(takes_s=0.2)
    made = [await make_worker(work, slots=2, drain_delay_s=IDLE_S) for _ in range(2)]
    await wait_until(lambda: sum(len(m.of(JobCompleted)) for m in made) == 3)
    assert work.peak == 1
    assert work.at(2) < 2


async def test_place_that_a_draining_worker_leaves_is_taken_at_once(make_worker: MakeWorker, queue: Any) -> None:
    await queue.setGlobalConcurrency(1)
    await add(queue, "a")
    work = Work(takes_s=0.3)
    first = await make_worker(work, drain_delay_s=IDLE_S)
    await wait_until(lambda: work.ids == ["a"])
    second = await make_worker(work, drain_delay_s=IDLE_S)
    await wait_until(lambda: second.of(QueueDrained))
    await add(queue, "b")
    await first.worker.stop(by=time.monotonic() + 5)
    await wait_until(lambda: second.of(JobCompleted), timeout_s=SOON_S)
    assert [event.job_id for event in second.of(JobCompleted)] == ["b"]


async def test_place_of_a_job_that_waits_for_children_is_taken_at_once(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    await queue.setGlobalConcurrency(1)
    await add(queue, "parent", "next")
    await redis.sadd(f"{prefix}:q:parent:dependencies", f"{prefix}:other:child")

    async def work(job: Activation, hold: Hold) -> Ending:
        if job.id == "parent":
            await asyncio.sleep(0.1)
            return AwaitingChildren(reason="r")
        return Completed(result=None)

    made = await make_worker(work, slots=3, drain_delay_s=IDLE_S)
    await wait_until(lambda: made.of(JobCompleted), timeout_s=SOON_S)
    assert await redis.zrange(f"{prefix}:q:waiting-children", 0, -1) == ["parent"]


# ------------------------------------------------------------------------ a rate


@pytest.mark.parametrize("by_queue", [False, True], ids=["of the worker", "of the queue"])
async def test_rate_opens_its_next_window_without_waiting_out_the_block(
    make_worker: MakeWorker, queue: Any, by_queue: bool
) -> None:
    """The stock worker took 10.06 s for such jobs, Node's 1.01 s."""
    if by_queue:
        await queue.setGlobalRateLimit(5, 300)
    await add(queue, *(f"j{index}" for index in range(15)))
    work = Work()
    settings: dict[str, Any] = {} if by_queue else {"limiter": {"max": 5, "duration": 300}}
    made = await make_worker(work, slots=3, drain_delay_s=IDLE_S, **settings)
    await wait_until(lambda: len(made.of(JobCompleted)) == 15)
    assert work.at(5) >= 0.2 and work.at(10) >= 0.5
    assert work.at(14) < 3


async def test_rate_is_shared_by_workers(make_worker: MakeWorker, queue: Any) -> None:
    await add(queue, *(f"j{index}" for index in range(9)))
    work = Work()
    made = [await make_worker(work, limiter={"max": 3, "duration": 300}, drain_delay_s=IDLE_S) for _ in range(2)]
    await wait_until(lambda: sum(len(m.of(JobCompleted)) for m in made) == 9)
    assert work.at(3) >= 0.2 and work.at(6) >= 0.5


# --------------------------------------------------------------- a limit by hand


async def test_limited_job_keeps_its_attempt_and_the_queue_waits_with_it(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """With the stock scripts and no rate configured the job would come straight back, for ever."""
    await add(queue, "limited", "next", "last", attempts=1)
    work = Work(limits={"limited": 400})
    made = await make_worker(work, drain_delay_s=IDLE_S)
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)
    assert work.ids == ["limited", "limited", "next", "last"], "it waited at the front, and ran no more than needed"
    assert 0.35 <= work.at(1) < 3
    (delayed,) = made.of(JobDelayed)
    assert (delayed.reason, delayed.delay_s) == ("429", 0.4)
    row = await redis.hgetall(f"{prefix}:q:limited")
    assert (row["atm"], row["ats"]) == ("1", "2")
    assert not made.of(WorkerError)


async def test_limit_is_the_key_that_node_sets(make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str) -> None:
    made = await make_worker()
    await made.worker.rate_limit(60_000)
    assert await redis.get(f"{prefix}:q:limiter") == str(MAX_SAFE)
    assert 50_000 < await redis.pttl(f"{prefix}:q:limiter") <= 60_000
    await made.worker.rate_limit(100)
    assert await redis.pttl(f"{prefix}:q:limiter") > 50_000, "the longer one holds"
    await made.worker.rate_limit(90_000)
    assert await redis.pttl(f"{prefix}:q:limiter") > 60_000


async def test_worker_that_waits_for_jobs_when_the_limit_is_set_keeps_to_it(
    make_worker: MakeWorker, queue: Any
) -> None:
    work = Work()
    made = await make_worker(work, slots=2, drain_delay_s=IDLE_S)
    await wait_until(lambda: made.of(QueueDrained))
    began = time.monotonic()
    await made.worker.rate_limit(400)
    await add(queue, "a")
    await wait_until(lambda: made.of(JobCompleted), timeout_s=SOON_S)
    assert work.began[0][1] - began >= 0.35


async def test_other_workers_learn_of_the_limit_without_running_the_job(make_worker: MakeWorker, queue: Any) -> None:
    work = Work(limits={"limited": 700})
    made = [await make_worker(work, slots=2, drain_delay_s=IDLE_S) for _ in range(3)]
    await add(queue, "limited", "a", "b", "c")
    await wait_until(lambda: sum(len(m.of(JobCompleted)) for m in made) == 4)
    early = [job_id for job_id, at in work.began if at - work.began[0][1] < 0.6]
    # a, b and c may have started beside it, before anybody knew; the limited job not again
    assert early.count("limited") == 1
    assert work.ids.count("limited") == 2
    assert sum(len(m.of(JobHandedBack)) for m in made) <= 2 * len(made), "each worker meets it once, not all the time"


async def test_worker_with_a_rate_keeps_to_the_limit_too(make_worker: MakeWorker, queue: Any) -> None:
    await add(queue, "limited", "next")
    work = Work(limits={"limited": 400})
    made = await make_worker(work, limiter={"max": 100, "duration": 100}, drain_delay_s=IDLE_S)
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert work.ids == ["limited", "limited", "next"]
    assert 0.35 <= work.at(1) < 3


async def test_running_jobs_end_and_no_other_starts_while_the_limit_holds(make_worker: MakeWorker, queue: Any) -> None:
    work = Work(takes_s=0.1, limits={"a": 800})
    work.takes_longer = {"b": 0.3}
    await add(queue, "a", "b", priority=5)
    made = await make_worker(work, slots=2, drain_delay_s=IDLE_S)
    await wait_until(lambda: len(work.ids) == 2)
    await add(queue, "c", "d", priority=1)  # before the limited one, which cannot warn of the limit then
    await wait_until(lambda: len(made.of(JobCompleted)) == 4)
    assert sorted(work.ids[:2]) == ["a", "b"]
    assert work.at(2) >= 0.8


async def test_limit_that_is_lifted_is_not_waited_out(make_worker: MakeWorker, queue: Any) -> None:
    await add(queue, "limited")
    work = Work(limits={"limited": 3_600_000})
    made = await make_worker(work, max_limit_s=0.1, drain_delay_s=IDLE_S)
    await wait_until(lambda: made.of(JobDelayed))
    await asyncio.sleep(0.3)
    assert work.ids == ["limited"]
    await queue.removeRateLimitKey()
    await wait_until(lambda: made.of(JobCompleted))


@pytest.mark.parametrize(
    "opts", [{"priority": 3}, {"lifo": True}, {"delay": 50}], ids=["prioritized", "lifo", "delayed"]
)
async def test_every_kind_of_job_may_meet_the_limit(make_worker: MakeWorker, queue: Any, opts: Any) -> None:
    await add(queue, "limited", "next", **opts)
    work = Work(limits={"limited": 300, "next": 300})
    made = await make_worker(work, drain_delay_s=IDLE_S)
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert sorted(work.ids) == ["limited", "limited", "next", "next"]


async def test_stop_does_not_wait_for_the_limit(make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str) -> None:
    await add(queue, "limited")
    made = await make_worker(Work(limits={"limited": 3_600_000}), drain_delay_s=IDLE_S)
    await wait_until(lambda: made.of(JobDelayed))
    began = time.monotonic()
    await made.worker.stop(by=began + 10)
    assert time.monotonic() - began < 5
    assert made.worker.drained
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == ["limited"]


async def test_paused_queue_keeps_a_limited_job(make_worker: MakeWorker, queue: Any) -> None:
    work = Work(takes_s=0.2, limits={"limited": 100})
    await add(queue, "limited")
    made = await make_worker(work, drain_delay_s=IDLE_S)
    await wait_until(lambda: made.of(JobActive))
    await queue.pause()
    await wait_until(lambda: made.of(JobDelayed))
    await asyncio.sleep(0.3)
    assert work.ids == ["limited"]
    await queue.resume()
    await wait_until(lambda: made.of(JobCompleted))

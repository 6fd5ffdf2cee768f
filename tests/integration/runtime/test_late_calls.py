"""A run that goes on although its job has been tried again writes nothing into that job any more: on a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Retry
from workers.broker.events import JobCompleted, JobFailed, JobProgress, JobRetrying, WorkerError
from workers.broker.hold import Hold
from workers.broker.keys import checkpoint
from workers.contract import JobContext, SyncJobContext, retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation import left_behind
from workers.runtime.isolation.call import Isolator
from workers.runtime.isolation.inline import Inline
from workers.runtime.isolation.thread import Threads
from workers.runtime.ladder import Ladder, Rung
from workers.runtime.retry import RetryPolicy

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
LIMITS = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


def executor(isolation: Isolator) -> Executor:
    """Attempts of a quarter of a second, killed soon after: a run that ignores that is left behind."""
    ladder = Ladder((Rung(do="cancel", at_s=0.25), Rung(do="kill", at_s=0.5)))
    plan = Plan(isolation=isolation, classify=retry_all, ladder=ladder, retry=RetryPolicy(attempts=3))
    return Executor({"email-send": plan}, LIMITS)


class Zombie:
    """Its first run ignores every cancellation and goes on asking; the second saves, and fails; so does the third."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.refused = 0
        self.ended = 0
        self.restored: list[Any] = []

    async def __call__(self, task: Any, ctx: JobContext) -> None:
        say = {"by": ctx.attempt}
        while ctx.attempt == 1 and not self.released.is_set():
            try:
                await ctx.progress(say)
                await ctx.log("attempt 1")
                await ctx.checkpoint(say)
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                self.refused += 1
        self.ended += 1
        self.restored.append(ctx.restored)
        await ctx.progress(say)
        await ctx.checkpoint(say)
        raise RuntimeError(f"attempt {ctx.attempt}")

    def sync(self, task: Any, ctx: SyncJobContext) -> None:
        say = {"by": ctx.attempt}
        while ctx.attempt == 1 and not self.released.is_set():
            with suppress(BaseException):
                try:
                    ctx.progress(say)
                    ctx.log("attempt 1")
                    ctx.checkpoint(say)
                except asyncio.CancelledError:
                    self.refused += 1
                    raise
                finally:
                    self.released.wait(0.01)
        self.ended += 1
        self.restored.append(ctx.restored)
        ctx.progress(say)
        ctx.checkpoint(say)
        raise RuntimeError(f"attempt {ctx.attempt}")


@pytest.fixture
def zombie() -> Zombie:
    return Zombie()


async def _is_refused_and_counted(made: Any, zombie: Zombie, redis: Redis, row: str, saved: str) -> None:
    await wait_until(lambda: made.of(JobFailed))
    refused, lines = zombie.refused, await redis.llen(f"{row}:logs")
    assert left_behind.counts()["q"] == 1
    await wait_until(lambda: zombie.refused > refused + 2)
    assert await redis.llen(f"{row}:logs") == lines > 0
    assert await redis.hget(row, "progress") == '{"by":3}'
    assert not await redis.exists(saved)
    assert zombie.restored == [{"by": 1}, {"by": 2}]
    by = [event.value["by"] for event in made.of(JobProgress)]
    assert by == sorted(by) and by[-2:] == [2, 3]
    assert [event.attempt for event in made.of(JobRetrying)] == [1, 2]
    zombie.released.set()
    await wait_until(lambda: left_behind.counts()["q"] == 0)
    assert await redis.hget(row, "progress") == '{"by":3}'


async def test_run_on_the_loop_that_was_left_behind_writes_nothing_more(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, zombie: Zombie
) -> None:
    made = await make_worker(executor(Inline(zombie)).execute)
    job = await queue.add("n", MAIL, {"attempts": 3})
    await _is_refused_and_counted(made, zombie, redis, f"{prefix}:q:{job.id}", checkpoint(prefix, "q", job.id))


async def test_run_in_a_thread_that_was_left_behind_writes_nothing_more(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, zombie: Zombie
) -> None:
    async with Threads(zombie.sync, "q") as threads:
        made = await make_worker(executor(threads).execute)
        job = await queue.add("n", MAIL, {"attempts": 3})
        await _is_refused_and_counted(made, zombie, redis, f"{prefix}:q:{job.id}", checkpoint(prefix, "q", job.id))


LATE: dict[str, Callable[[Hold], Awaitable[Any]]] = {
    "progress": lambda hold: hold.progress({"by": "late"}),
    "log": lambda hold: hold.log("late"),
    "checkpoint": lambda hold: hold.checkpoint("late"),
}


@pytest.mark.parametrize("do", LATE)
async def test_server_refuses_what_reaches_it_after_the_ending(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, do: str
) -> None:
    """The same slot runs the job again, with the same token: as a command that was on its way when the run ended."""
    holds: list[Hold] = []
    found: dict[str, Any] = {}

    async def work(job: Activation, hold: Hold) -> Ending:
        holds.append(hold)
        if len(holds) == 1:
            await hold.checkpoint("first")
            return Retry(delay_ms=0, reason="r", error="E")
        assert hold.job.token == holds[0].job.token and hold.job.fence == holds[0].job.fence + 1
        await LATE[do](holds[0])
        row = f"{prefix}:q:{job.id}"
        found["progress"], found["log"] = await redis.hget(row, "progress"), await redis.llen(f"{row}:logs")
        found["checkpoint"] = await hold.restored()
        await hold.progress(2)
        await hold.log("second")
        found["after"] = await redis.hget(row, "progress"), await redis.lrange(f"{row}:logs", 0, -1)
        return Completed(result=None)

    await queue.add("n", MAIL, {"attempts": 3})
    made = await make_worker(work, slots=1)
    await wait_until(lambda: made.of(JobCompleted))
    assert found["progress"] in (None, "0")  # as BullMQ's row begins
    assert (found["log"], found["checkpoint"]) == (0, "first")
    assert found["after"] == ("2", ["second"])
    assert [event.value for event in made.of(JobProgress)] == [2]
    [error] = [event for event in made.of(WorkerError) if event.where == do]
    assert "was not saved: another run may have the job" in str(error.error)
    assert holds[0].interrupt is not None and holds[1].interrupt is None


@pytest.mark.parametrize("do", ["progress", "log"])
async def test_run_that_lost_its_lock_writes_nothing_and_hears_of_it(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, do: str
) -> None:
    written: dict[str, Any] = {}
    done = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        row = f"{prefix}:q:{job.id}"
        await redis.set(f"{row}:lock", "another's")
        await LATE[do](hold)
        written["progress"], written["log"] = await redis.hget(row, "progress"), await redis.llen(f"{row}:logs")
        assert hold.interrupt is not None and hold.interrupt.kind == "lock_lost"
        await redis.set(f"{row}:lock", job.token)
        done.set()
        return Completed(result=None)

    await queue.add("n", MAIL)
    made = await make_worker(work)
    await wait_until(done.is_set)
    assert written["log"] == 0 and written["progress"] in (None, "0")
    await wait_until(lambda: made.of(JobCompleted))


async def test_log_keeps_as_many_lines_as_the_job_says(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        for number in range(5):
            await hold.log(f"line {number}")
        return Completed(result=None)

    job = await queue.add("n", MAIL, {"keepLogs": 2})
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobCompleted))
    assert await redis.lrange(f"{prefix}:q:{job.id}:logs", 0, -1) == ["line 3", "line 4"]

"""Hazards H5, H15 and H18 of the package's worker: processors with the worst manners. The job fails
at once with the real reason; the worker and its other jobs notice nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from tests.fleet_worker import Served
from tests.integration.broker.processors import MAIL, NEVER, Unheard, runs, succeeds
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import (
    JobActive,
    JobCompleted,
    JobFailed,
    JobLost,
    WorkerError,
)
from workers.broker.hold import Hold
from workers.contract import JobContext
from workers.runtime import deadline, ladder

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


# --------------------------------------------- H5: what escapes from a processor


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(NEVER)


async def group_of_base_exceptions() -> None:
    raise BaseExceptionGroup("several", [Unheard("one"), ValueError("two")])


ESCAPES: dict[str, tuple[Any, str]] = {
    "CancelledError": (asyncio.CancelledError, "the processor raised CancelledError"),
    "its own cancellation": (cancels_itself, "the processor raised CancelledError"),
    "GeneratorExit": (GeneratorExit, "the processor raised GeneratorExit"),
    "KeyboardInterrupt": (KeyboardInterrupt, "the processor raised KeyboardInterrupt"),
    "sys.exit": (lambda: sys.exit("bye"), "the processor raised SystemExit: bye"),
    "a BaseException": (Unheard("psst"), "the processor raised Unheard: psst"),
    "a group of them": (group_of_base_exceptions, "the processor raised BaseExceptionGroup: several"),
    "StopAsyncIteration": (StopAsyncIteration, "StopAsyncIteration"),
    "StopIteration": (StopIteration, "coroutine raised StopIteration"),
}


@pytest.mark.parametrize(("how", "reason"), ESCAPES.values(), ids=ESCAPES)
async def test_what_escapes_from_a_processor_fails_its_job_alone(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, how: Any, reason: str
) -> None:
    """H5: the stock worker ends in silence, its other jobs are cancelled and stay active."""
    go = asyncio.Event()

    async def process(task: Any, ctx: JobContext) -> Any:
        if ctx.job_id != "bad":
            return await go.wait()
        if isinstance(how, BaseException) or (isinstance(how, type) and issubclass(how, BaseException)):
            raise how
        answer = how()
        return await answer if asyncio.iscoroutine(answer) else answer

    made = await make_worker(runs(process), slots=4)
    for job_id in ("one", "two", "bad", "three", "after"):
        await queue.add("n", MAIL, {"jobId": job_id})
    await wait_until(lambda: made.of(JobFailed))
    go.set()
    await wait_until(lambda: len(made.of(JobCompleted)) == 4)
    (failed,) = made.of(JobFailed)
    assert failed.job_id == "bad"
    assert failed.reason.startswith(reason)
    row = await redis.hgetall(f"{prefix}:q:bad")
    assert (row["failedReason"], row["atm"], row.get("stc")) == (failed.reason, "1", None)
    assert made.worker.health().ok
    assert not made.of(JobLost) and not made.of(WorkerError)


async def test_processor_that_ignores_its_time_out_loses_its_slot_to_the_next_job(
    make_worker: MakeWorker, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", 0.1)
    monkeypatch.setattr(ladder, "KILL_S", 0.1)
    release = asyncio.Event()

    async def process(task: Any, ctx: JobContext) -> str:
        while ctx.job_id == "deaf" and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "fine"

    made = await make_worker(runs(process, timeout_s=0.2))
    await queue.add("n", MAIL, {"jobId": "deaf"})
    await queue.add("n", MAIL, {"jobId": "next"})
    await wait_until(lambda: made.of(JobCompleted))
    (failed,) = made.of(JobFailed)
    assert failed.reason == "timed out after 0.3 s at rung kill; it ignored its cancellation and may still be running"
    assert [event.job_id for event in made.of(JobCompleted)] == ["next"]
    release.set()
    await wait_until(lambda: not deadline._abandoned)
    assert [event.job_id for event in made.of(JobCompleted)] == ["next"]  # its late result is nobody's


async def test_tasks_that_a_processor_leaves_behind_hurt_nobody(make_worker: MakeWorker, queue: Any) -> None:
    strays: list[asyncio.Task[Any]] = []
    heard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(str(context.get("exception"))))

    async def raises() -> None:
        raise Unheard("stray")

    async def process(task: Any, ctx: JobContext) -> str:
        if ctx.job_id == "parent":
            strays.extend(asyncio.create_task(work) for work in (raises(), asyncio.sleep(NEVER)))
        return "fine"

    made = await make_worker(runs(process))
    for job_id in ("parent", "after"):
        await queue.add("n", MAIL, {"jobId": job_id})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    await made.worker.stop(by=time.monotonic() + 2)
    assert made.worker.drained
    assert [stray.done() for stray in strays] == [True, False]
    strays[1].cancel()
    assert isinstance(strays[0].exception(), Unheard)
    asyncio.get_running_loop().set_exception_handler(None)
    assert heard == []


EXITING_CHILD = """
import asyncio, sys
from tests.fleet_worker import Served
from tests.integration.broker.processors import exits_in_a_task_of_its_own
asyncio.run(exits_in_a_task_of_its_own(sys.argv[1]))
"""


async def test_exit_in_a_task_of_the_processors_own_fails_the_job_and_not_the_process(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", EXITING_CHILD, server.url), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, json.loads(output or b"{}")) == (0, {"failed": ["bad"], "completed": ["after"]})


async def test_processor_that_cancels_every_task_of_the_loop_ends_neither_slots_nor_renewal(
    make_worker: MakeWorker, queue: Any
) -> None:
    """As clean-up code does that was written for a loop of its own."""
    others = asyncio.all_tasks()

    async def process(task: Any, ctx: JobContext) -> str:
        if ctx.job_id == "bad":
            for each in asyncio.all_tasks() - others:
                each.cancel()
            await asyncio.sleep(0)
        return "fine"

    made = await make_worker(runs(process), slots=2)
    await queue.add("n", MAIL, {"jobId": "bad"})
    await wait_until(lambda: made.of(JobFailed), timeout_s=2)
    await queue.add("n", MAIL, {"jobId": "after"})
    await wait_until(lambda: made.of(JobCompleted), timeout_s=2)
    assert made.worker.health().ok


# ------------------------------------------------ H15: one token for several jobs


async def test_every_job_that_is_held_has_a_lock_token_of_its_own(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """H15: a burst of the stock worker's fetches shares the last token, so a lock says nothing about its holder."""
    go = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        await go.wait()
        return Completed(result=None)

    made = await make_worker(work, slots=10)
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(10)])
    await wait_until(lambda: len(made.of(JobActive)) == 10)
    tokens = [await redis.get(f"{prefix}:q:{event.job_id}:lock") for event in made.of(JobActive)]
    go.set()
    await wait_until(lambda: len(made.of(JobCompleted)) == 10)
    assert len(set(tokens)) == 10 and None not in tokens


# -------------------------------------------------------- H18: blocking processors


async def test_processor_that_blocks_the_loop_keeps_its_job(
    make_worker: MakeWorker, queue: Any, endpoint: Endpoint
) -> None:
    """H18: the lock of the stock worker expires meanwhile and the job is run twice."""
    runs_seen: list[str] = []
    ended = threading.Event()

    async def process(task: Any, ctx: JobContext) -> str:
        runs_seen.append(threading.current_thread().name)
        time.sleep(2.5)  # noqa: ASYNC251 - what it is about
        return "fine"

    async def rival() -> None:
        served = Served(
            runs(process),
            endpoint=endpoint,
            emit=lambda event: None,
            lock_ms=1000,
            stalled_interval_ms=200,
            drain_delay_s=0.2,
        )
        await served.worker.start()
        await asyncio.to_thread(ended.wait)
        await served.stop(5)

    made = await make_worker(runs(process), lock_ms=1000)
    await queue.add("n", MAIL)
    other = threading.Thread(target=lambda: asyncio.run(rival()), name="rival")
    await wait_until(lambda: made.of(JobActive), every_s=0)
    other.start()
    try:
        await wait_until(lambda: [e for e in made.events if isinstance(e, JobCompleted | JobLost)])
    finally:
        ended.set()
        await asyncio.to_thread(other.join, 20)
    assert runs_seen == ["MainThread"]
    assert made.of(JobCompleted) and not made.of(JobLost)


async def test_processor_that_is_no_coroutine_function_fails_its_jobs_and_says_why(
    make_worker: MakeWorker, queue: Any
) -> None:
    """H18: blocking functions belong into a thread; the module's author is told, not the operator."""

    def process(task: Any, ctx: JobContext) -> Any:
        return 7

    made = await make_worker(runs(process))
    await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobFailed))
    assert "int" in made.of(JobFailed)[0].reason and "await" in made.of(JobFailed)[0].reason


async def test_succeeding_processor_is_the_control_of_all_these_tests(make_worker: MakeWorker, queue: Any) -> None:
    made = await make_worker(runs(succeeds))
    await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobCompleted))
    assert made.of(JobCompleted)[0].result == "fine"

"""Worker, executor and isolation together on a real server: what becomes of jobs that hang, crash or are drained."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from bullmq import Job, Queue
from redis.asyncio import Redis

from tests.conftest import Made, MakeWorker, wait_until
from tests.hostile.acts import classify
from tests.hostile.rig import is_gone, isolated
from tests.hostile.task import Hostile
from workers.broker.events import JobCompleted, JobDelayed, JobEvent, JobFailed, JobHandedBack, JobRetrying, JobRung
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.children import Children
from workers.runtime.isolation.place import trouble_of
from workers.runtime.isolation.thread import Threads
from workers.runtime.ladder import Ladder, Rung
from workers.runtime.retry import RetryPolicy

Serve: TypeAlias = Callable[..., Awaitable[tuple[Made, Any]]]

NONE = "no child process can be started"
#: Cancelled soon, killed soon after.
SHORT = Ladder((Rung(do="cancel", at_s=0.3, wait_s=0.2), Rung(do="kill", wait_s=2.0)))


@pytest.fixture
async def serve(make_worker: MakeWorker) -> AsyncIterator[Serve]:
    """Starts a worker whose jobs run in children, or in threads."""
    async with AsyncExitStack() as stack:

        async def start(
            kind: str = "process",
            flavour: str = "async",
            *,
            ladder: Ladder = SHORT,
            attempts: int = 1,
            slots: int = 2,
            **more: Any,
        ) -> tuple[Made, Any]:
            isolation = await stack.enter_async_context(isolated(kind, flavour, slots=slots, **more))
            plan = Plan(
                isolation=isolation,
                classify=classify,
                ladder=ladder,
                retry=RetryPolicy(attempts=attempts, delay_s=60),
                task=Hostile,
            )
            limits = Limits(max_data_bytes=10_000_000, unknown_delay_s=30, unknown_give_up_s=3600)
            execute = Executor({"hostile": plan}, limits).execute
            made = await make_worker(execute, slots=slots, trouble=trouble_of(isolation))
            return made, isolation

        yield start


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def add(queue: Any, act: str, **args: Any) -> str:
    job = await queue.add("n", {"type": "hostile", "id": "1", "act": act, "args": args})
    return str(job.id)


async def works(made: Made, queue: Any) -> bool:
    """One more job is done."""
    job_id = await add(queue, "echo", value=1)
    return await wait_until(lambda: job_id in ids(made.of(JobCompleted)))


def ids(events: Sequence[JobEvent]) -> list[str]:
    return [event.job_id for event in events]


@pytest.mark.parametrize("act", ["never_yields", "holds_gil", "ignores_everything"])
async def test_job_that_hangs_in_a_child_is_killed_at_the_last_rung_and_its_slot_goes_on(
    serve: Serve, queue: Any, redis: Redis, prefix: str, act: str
) -> None:
    made, isolation = await serve()
    assert isinstance(isolation, Children)
    await wait_until(lambda: len(isolation.pids) == 2)
    pids = isolation.pids
    job_id = await add(queue, act)
    await wait_until(lambda: made.of(JobFailed))
    (failed,) = made.of(JobFailed)
    assert (failed.failure, failed.error) == ("timed-out", "Timeout")
    assert failed.reason.startswith("timed out after 0.")
    assert "may still be running" not in failed.reason
    assert [event.rung for event in made.of(JobRung)][-1] == "kill"
    assert await redis.hget(f"{prefix}:q:{job_id}", "failedReason") == failed.reason
    await wait_until(lambda: sum(is_gone(pid) for pid in pids) == 1)
    await wait_until(lambda: len(isolation.pids) == 2)
    assert await works(made, queue)


async def test_neighbours_of_a_job_that_hangs_in_a_child_notice_nothing(serve: Serve, queue: Any) -> None:
    made, _ = await serve(ladder=Ladder((Rung(do="cancel", at_s=2.0, wait_s=0.2),)))
    await add(queue, "never_yields")
    for _ in range(5):
        assert await works(made, queue)
    assert made.of(JobFailed) == []
    await wait_until(lambda: made.of(JobFailed))


async def test_time_that_a_job_waits_for_a_child_is_not_its_own(serve: Serve, queue: Any) -> None:
    """More jobs at once than there are children, whose starts take longer than a job may."""
    ladder = Ladder.timeout(0.75)
    made, _ = await serve(ladder=ladder, slots=8, options={"opens_in_s": 1.0})
    jobs = [await add(queue, "sleeps_in_c", seconds=0.05) for _ in range(8)]
    await wait_until(lambda: len(made.of(JobCompleted)) + len(made.of(JobFailed)) == len(jobs))
    assert made.of(JobFailed) == []


async def test_jobs_that_no_child_can_be_started_for_keep_their_attempt_and_the_queue_says_why(
    serve: Serve, queue: Any, redis: Redis, prefix: str, tmp_path: Path
) -> None:
    refusal, errors = tmp_path / "refusal", list[Exception]()
    options = {"refuse_file": str(refusal)}
    made, isolation = await serve(ladder=Ladder.timeout(60), slots=1, options=options, errors=errors)
    assert made.worker.health().ok
    refusal.touch()
    await add(queue, "dies", exit=1)
    await wait_until(lambda: isolation.trouble)
    isolation.patience_s = 0.2
    jobs = [await add(queue, "echo", value=n) for n in range(3)]
    await wait_until(lambda: len(made.of(JobDelayed)) >= 3)
    assert [event.reason for event in made.of(JobDelayed)][:3] == [f"{NONE}: refused by a file"] * 3
    assert not made.worker.health().ok
    assert made.worker.health().detail.startswith(f"{NONE}: refused by a file; ")
    assert len(made.of(JobFailed)) == 1, "only the one that had run"
    assert [await redis.hget(f"{prefix}:q:{job_id}", "atm") for job_id in jobs] == [None] * 3
    assert [str(error) for error in errors] == ["refused by a file"]
    refusal.unlink()
    await wait_until(lambda: made.worker.health().ok, timeout_s=60)
    for job_id in jobs:
        job = await Job.fromId(queue, job_id)
        if await job.isDelayed():
            await job.promote()
    await wait_until(lambda: set(jobs) <= set(ids(made.of(JobCompleted))))


async def test_drain_does_not_wait_for_a_child(serve: Serve, queue: Any, redis: Redis, prefix: str) -> None:
    made, isolation = await serve(ladder=Ladder.timeout(60), slots=1)
    place = isolation.take()  # nobody gives it back
    assert place is not None
    job_id = await add(queue, "echo", value=1)
    await wait_until(lambda: isolation._waiters)
    await made.worker.stop(by=time.monotonic() + 20)
    assert made.worker.drained
    assert len(made.of(JobHandedBack)) == 1
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [job_id]


async def test_crash_is_stored_with_its_signal_and_may_be_tried_again(
    serve: Serve, queue: Any, redis: Redis, prefix: str
) -> None:
    made, _ = await serve(attempts=2, ladder=Ladder.timeout(60))
    job_id = await add(queue, "dies", signal="SIGSEGV", truly=True)
    await wait_until(lambda: made.of(JobRetrying))
    (event,) = made.of(JobRetrying)
    assert (event.failure, event.error) == ("crashed", "CrashedError")
    assert await redis.hget(f"{prefix}:q:{job_id}", "failedReason") == "its process was killed by SIGSEGV"


async def test_failure_in_a_child_is_stored_with_its_stack(serve: Serve, queue: Any, redis: Redis, prefix: str) -> None:
    made, _ = await serve(attempts=3)
    job_id = await add(queue, "raises", name="gravely")
    await wait_until(lambda: made.of(JobFailed))
    (event,) = made.of(JobFailed)
    assert (event.failure, event.error, event.reason) == ("user", "GravelyStrangeError", "what??")
    stacks: Any = await redis.hget(f"{prefix}:q:{job_id}", "stacktrace")
    (stack,) = json.loads(stacks)
    assert "in raises" in stack
    assert stack.rstrip().endswith("GravelyStrangeError: what??")


async def test_memory_of_a_job_in_a_child_is_told_with_its_end(serve: Serve, queue: Any) -> None:
    made, _ = await serve()
    await add(queue, "grows", bytes=30 * 2**20)
    await wait_until(lambda: made.of(JobCompleted))
    memory = made.of(JobCompleted)[0].memory
    assert memory is not None
    assert 25 * 2**20 < memory.delta < 60 * 2**20


async def test_memory_of_a_job_in_a_thread_is_nobodys_to_tell(serve: Serve, queue: Any) -> None:
    made, _ = await serve("thread", "sync")
    assert await works(made, queue)
    assert made.of(JobCompleted)[0].memory is None


@pytest.mark.parametrize(("kind", "flavour"), [("process", "async"), ("process", "sync"), ("thread", "sync")])
async def test_drain_hands_back_what_does_not_end(
    serve: Serve, queue: Any, redis: Redis, prefix: str, kind: str, flavour: str
) -> None:
    made, _ = await serve(kind, flavour, ladder=Ladder.timeout(3600))
    job_id = await add(queue, "cleans_up")
    await wait_until(lambda: made.worker._leases)
    await asyncio.sleep(0.3)
    await made.worker.stop(by=time.monotonic() + 2)
    assert made.worker.drained
    assert len(made.of(JobHandedBack)) == 1
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [job_id]


@pytest.mark.parametrize(("kind", "flavour"), [("process", "async"), ("thread", "sync")])
async def test_drain_is_seen_by_the_processor(serve: Serve, queue: Any, kind: str, flavour: str) -> None:
    made, _ = await serve(kind, flavour, ladder=Ladder.timeout(3600))
    await add(queue, "waits")
    await wait_until(lambda: made.worker._leases)
    await asyncio.sleep(0.2)
    await made.worker.stop(by=time.monotonic() + 20)
    (event,) = made.of(JobCompleted)
    assert event.result == {"kind": "drain", "reason": "the worker is shutting down"}


async def test_thread_that_hangs_is_left_behind_and_its_slot_goes_on(serve: Serve, queue: Any) -> None:
    errors: list[Exception] = []
    ladder = Ladder((Rung(do="cancel", at_s=0.1, wait_s=0.1), Rung(do="kill", wait_s=0.1)))
    made, isolation = await serve("thread", "sync", ladder=ladder, errors=errors)
    assert isinstance(isolation, Threads)
    for _ in range(2):
        await add(queue, "sleeps_in_c", seconds=2)
    await wait_until(lambda: len(made.of(JobFailed)) == 2)
    assert all("may still be running" in event.reason for event in made.of(JobFailed))
    assert (len(errors), isolation.abandoned) == (2, 2)
    assert await works(made, queue)
    await wait_until(lambda: isolation.abandoned == 0)

"""Endings that are neither success nor failure, the limit of starts, children, and a back-off of the module's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bullmq import FlowProducer, Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, RateLimited, Requeued, Retry
from workers.broker.events import JobActive, JobCompleted, JobDelayed, JobFailed, JobRetrying, WorkerError
from workers.broker.execution import Execute
from workers.broker.gate import TOO_OFTEN
from workers.broker.hold import Hold
from workers.contract import JobContext, Requeue, TransientError, Verdict, WaitForChildren
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

DATA = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
async def flows(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    flows = FlowProducer(redis_url, {"prefix": prefix})
    yield flows
    await flows.close()


def runs(process: Callable[[Any, JobContext], Awaitable[Any]], **plan: Any) -> Execute:
    """A processor of a queue module, as its executor runs it."""
    parts: dict[str, Any] = {
        "classify": lambda error: Verdict(),
        "ladder": Ladder.timeout(30),
        "retry": RetryPolicy(attempts=1),
    }
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=1, unknown_give_up_s=1)
    return Executor({"email-send": Plan(isolation=Inline(process), **{**parts, **plan})}, limits).execute


# ------------------------------------------------------------------ starts


async def test_job_that_puts_itself_off_for_ever_ends_with_its_starts(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Delayed(delay_ms=5, reason="later")

    made = await make_worker(work, max_starts=4)
    await queue.add("n", {}, {"jobId": "j"})
    await wait_until(lambda: made.of(JobFailed))
    assert len(made.of(JobDelayed)) == 4
    row = await redis.hgetall(f"{prefix}:q:j")
    assert (row["failedReason"], row["ats"], row["atm"]) == (TOO_OFTEN, "5", "1")


async def test_last_start_that_fails_is_the_end_with_its_own_reason(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Retry(reason=f"run {job.fence}", error="E", delay_ms=5)

    made = await make_worker(work, max_starts=2)
    await queue.add("n", {}, {"jobId": "j", "attempts": 10})
    await wait_until(lambda: made.of(JobFailed))
    assert len(made.of(JobRetrying)) == 1
    row = await redis.hgetall(f"{prefix}:q:j")
    assert (row["failedReason"], row["ats"], row["atm"]) == ("run 2", "2", "2")


# ----------------------------------------------------------------- requeue


async def test_requeued_job_runs_again_before_the_others_and_keeps_its_attempt(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    order: list[str] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        order.append(job.id)
        return Requeued(reason="step") if job.id == "steps" and job.fence < 3 else Completed(result=job.fence)

    for job_id in ("steps", "other"):
        await queue.add("n", {}, {"jobId": job_id})
    made = await make_worker(work)
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert order == ["steps", "steps", "steps", "other"]
    row = await redis.hgetall(f"{prefix}:q:steps")
    assert (row["atm"], row["ats"], row["returnvalue"]) == ("1", "3", "3")


async def test_processor_works_in_steps(make_worker: MakeWorker, queue: Any) -> None:
    steps: list[int] = []

    async def process(task: Any, ctx: JobContext) -> Any:
        steps.append(ctx.fence)
        return Requeue() if ctx.fence < 3 else "done"

    await queue.add("n", DATA, {})
    made = await make_worker(runs(process))
    await wait_until(lambda: made.of(JobCompleted))
    assert steps == [1, 2, 3]
    assert {event.attempt for event in made.of(JobActive)} == {1}


# ---------------------------------------------------------------- children


def flow(*children: dict[str, Any], **parent: Any) -> dict[str, Any]:
    return {
        "name": "parent",
        "queueName": "q",
        "data": DATA,
        "opts": {"jobId": "parent", **parent},
        "children": [{"name": "child", "queueName": "kids", "data": DATA, **child} for child in children],
    }


def child(job_id: str, **opts: Any) -> dict[str, Any]:
    return {"opts": {"jobId": job_id, **opts}}


async def test_parent_reads_what_its_children_returned(make_worker: MakeWorker, flows: Any, prefix: str) -> None:
    async def kid(task: Any, ctx: JobContext) -> Any:
        if ctx.job_id == "c":
            raise ValueError("no")
        return {"by": ctx.job_id}

    async def parent(task: Any, ctx: JobContext) -> Any:
        return {"values": await ctx.children_values(), "failures": await ctx.children_failures()}

    await flows.add(flow(child("a"), child("b"), child("c", ignoreDependencyOnFailure=True)))
    made = await make_worker(runs(parent))
    await make_worker(runs(kid), queue="kids")
    await wait_until(lambda: made.of(JobCompleted))
    assert made.of(JobCompleted)[0].result == {
        "values": {f"{prefix}:kids:a": {"by": "a"}, f"{prefix}:kids:b": {"by": "b"}},
        "failures": {f"{prefix}:kids:c": "no"},
    }


async def test_children_added_by_the_run_are_waited_for(
    make_worker: MakeWorker, queue: Any, redis_url: str, prefix: str
) -> None:
    kids = Queue("kids", {"connection": redis_url, "prefix": prefix})
    runs_of_parent: list[int] = []

    async def parent(task: Any, ctx: JobContext) -> Any:
        runs_of_parent.append(ctx.fence)
        if ctx.fence == 1:
            await kids.add("c", DATA, {"jobId": "late", "parent": {"id": ctx.job_id, "queue": f"{prefix}:q"}})
            return WaitForChildren()
        return await ctx.children_values()

    async def kid(task: Any, ctx: JobContext) -> Any:
        return 42

    await queue.add("n", DATA, {"jobId": "parent"})
    made = await make_worker(runs(parent))
    await wait_until(lambda: made.of(JobDelayed))
    assert await queue.getJobState("parent") == "waiting-children"
    await make_worker(runs(kid), queue="kids")
    await wait_until(lambda: made.of(JobCompleted))
    await kids.close()
    assert made.of(JobCompleted)[0].result == {f"{prefix}:kids:late": 42}
    assert runs_of_parent == [1, 2]
    assert made.of(JobCompleted)[0].attempt == 1


async def test_without_pending_children_the_job_goes_on_at_once(make_worker: MakeWorker, queue: Any) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        return WaitForChildren() if ctx.fence == 1 else "done"

    await queue.add("n", DATA, {})
    made = await make_worker(runs(process), drain_delay_s=10)
    await wait_until(lambda: made.of(JobCompleted), timeout_s=5)
    assert not made.of(WorkerError)


async def test_child_that_fails_fails_its_parent_without_running_it(
    make_worker: MakeWorker, flows: Any, redis: Redis, prefix: str
) -> None:
    async def kid(task: Any, ctx: JobContext) -> Any:
        raise ValueError("no")

    await flows.add(flow(child("a", failParentOnFailure=True)))
    made = await make_worker(runs(kid))
    await make_worker(runs(kid), queue="kids")
    await wait_until(lambda: made.of(JobFailed))
    (failed,) = made.of(JobFailed)
    assert failed.reason == f"child {prefix}:kids:a failed"
    assert failed.error == "Deferred"


async def test_wait_for_children_of_which_one_failed_is_a_failure_that_says_so(
    make_worker: MakeWorker, flows: Any, redis: Redis, prefix: str
) -> None:
    async def waits(task: Any, ctx: JobContext) -> Any:
        return WaitForChildren()

    await flows.add(flow(child("a")))
    await redis.zadd(f"{prefix}:q:parent:unsuccessful", {f"{prefix}:kids:a": 1})
    await redis.zrem(f"{prefix}:q:waiting-children", "parent")
    await redis.lpush(f"{prefix}:q:wait", "parent")
    await redis.zadd(f"{prefix}:q:marker", {"0": 0})
    made = await make_worker(runs(waits))
    await wait_until(lambda: made.of(JobFailed))
    assert "at least one of its children failed" in made.of(JobFailed)[0].reason


async def test_children_that_can_not_be_read_are_a_failure_that_may_be_retried(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    raised: list[str] = []

    async def process(task: Any, ctx: JobContext) -> Any:
        try:
            return await ctx.children_values()
        except TransientError as error:
            raised.append(str(error))
            raise

    await redis.set(f"{prefix}:q:j:processed", "no hash")
    await queue.add("n", DATA, {"jobId": "j"})
    made = await make_worker(runs(process))
    await wait_until(lambda: made.of(JobFailed))
    assert "WRONGTYPE" in raised[0]


# ----------------------------------------------------------------- the rest


async def test_modules_own_backoff_is_asked_for_a_custom_type(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        raise ValueError(f"run {ctx.attempt}")

    async def backoff(failures: int, kind: str, error: Exception) -> float | None:
        return failures / 100 if failures < 3 else None

    await queue.add("n", DATA, {"jobId": "j", "attempts": 10, "backoff": {"type": "mine"}})
    made = await make_worker(runs(process, backoff=backoff))
    await wait_until(lambda: made.of(JobFailed))
    assert [event.delay_s for event in made.of(JobRetrying)] == [0.01, 0.02]
    assert (await redis.hgetall(f"{prefix}:q:j"))["failedReason"] == "run 3"


async def test_metrics_are_kept_by_default(make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result=None)

    made = await make_worker(work)
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(5)])
    await wait_until(lambda: len(made.of(JobCompleted)) == 5)
    assert await redis.hget(f"{prefix}:q:metrics:completed", "count") == "5"


async def test_row_carries_what_the_endings_left(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """Whatever a job went through before, its last ending is written as if it had been the first."""
    script: list[Ending] = [
        Requeued(reason="r"),
        Delayed(delay_ms=1, reason="r"),
        RateLimited(delay_ms=20, reason="r"),
        Retry(reason="no", error="E", delay_ms=1, stack="S"),
        Completed(result="done"),
    ]

    async def work(job: Activation, hold: Hold) -> Ending:
        return script.pop(0)

    made = await make_worker(work)
    await queue.add("n", {}, {"jobId": "j", "attempts": 3})
    await wait_until(lambda: made.of(JobCompleted))
    row = await redis.hgetall(f"{prefix}:q:j")
    assert (row["atm"], row["ats"], json.loads(row["returnvalue"])) == ("2", "5", "done")
    assert await redis.llen(f"{prefix}:q:active") == 0
    assert not made.of(WorkerError)

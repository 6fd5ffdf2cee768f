"""FleetWorker on a real Valkey: fetch, execute, finish, and what may go wrong in between."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.activation import Activation, Bounds
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Retry
from workers.broker.events import (
    JobActive,
    JobCompleted,
    JobDelayed,
    JobFailed,
    JobHandedBack,
    JobRetrying,
    WorkerError,
    WorkerState,
)
from workers.broker.hold import Hold

Add = Any


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> Any:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def row(redis: Redis, prefix: str, job_id: str) -> dict[str, str]:
    answer: Any = await redis.hgetall(f"{prefix}:q:{job_id}")
    return dict(answer)


async def test_completed_job_has_result_attempt_and_worker(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    made = await make_worker(name="alpha")
    job = await queue.add("n", {"type": "email-send"}, {"jobId": "a:b"})
    await wait_until(lambda: made.of(JobCompleted))
    stored = await row(redis, prefix, job.id)
    assert json.loads(stored["returnvalue"]) == {"id": "a:b"}
    assert (stored["atm"], stored["ats"], stored["pb"]) == ("1", "1", "alpha")
    assert await redis.zscore(f"{prefix}:q:completed", "a:b") == float(stored["finishedOn"])
    (event,) = made.of(JobCompleted)
    assert (event.queue, event.job_id, event.task_type, event.attempt) == ("q", "a:b", "email-send", 1)
    assert made.of(JobActive)[0].wait_s is not None


async def test_slots_share_the_load_and_never_exceed_their_number(make_worker: MakeWorker, queue: Any) -> None:
    running = peak = 0

    async def work(job: Activation, hold: Hold) -> Ending:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1
        return Completed(result=None)

    made = await make_worker(work, slots=4)
    await queue.addBulk([{"name": "n", "data": {"i": i}} for i in range(60)])
    await wait_until(lambda: len(made.of(JobCompleted)) == 60)
    assert peak == 4
    assert len({event.job_id for event in made.of(JobCompleted)}) == 60


async def test_retry_waits_then_fails_for_good_with_stacks(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        if job.attempts_made < 2:
            return Retry(reason=f"no {job.attempts_made}", error="E", delay_ms=20 * job.attempts_made, stack="S")
        return Failed(reason="over", error="E", stack="S")

    made = await make_worker(work)
    job = await queue.add("n", {}, {"attempts": 3})
    await wait_until(lambda: made.of(JobFailed))
    assert [event.attempt for event in made.of(JobRetrying)] == [1, 2]
    stored = await row(redis, prefix, job.id)
    assert stored["failedReason"] == "over"
    assert json.loads(stored["stacktrace"]) == ["S", "S", "S"]
    assert (stored["atm"], stored["ats"]) == ("3", "3")
    entries: Any = await redis.xrange(f"{prefix}:q:events")
    events = [fields["event"] for _, fields in entries]
    assert events.count("failed") == 1
    assert "retries-exhausted" in events


async def test_delayed_job_keeps_its_attempt(make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Delayed(delay_ms=30, reason="later") if job.fence < 3 else Completed(result=job.attempts_made)

    made = await make_worker(work)
    job = await queue.add("n", {})
    await wait_until(lambda: made.of(JobCompleted))
    assert len(made.of(JobDelayed)) == 2
    stored = await row(redis, prefix, job.id)
    assert (stored["returnvalue"], stored["atm"]) == ("0", "1")


async def test_keep_rules_of_the_job_win_and_the_queue_fills_in(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    made = await make_worker(keep_completed={"age": 86_400, "count": 1})
    rules: tuple[dict[str, Any], ...] = ({"removeOnComplete": True}, {"removeOnComplete": {"count": "x"}}, {}, {})
    for index, opts in enumerate(rules):
        await queue.add("n", {}, {"jobId": f"j{index}", **opts})
    await wait_until(lambda: len(made.of(JobCompleted)) == 4)
    assert await redis.zrange(f"{prefix}:q:completed", 0, -1) == ["j3"]
    assert not await row(redis, prefix, "j0")


@pytest.mark.parametrize("delay", [50, 300, 700])
async def test_delays_are_kept_to_the_millisecond_not_the_second(
    make_worker: MakeWorker, queue: Any, delay: int
) -> None:
    late: list[float] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        late.append(time.time() * 1000 - job.timestamp - delay)
        return Completed(result=None)

    made = await make_worker(work)
    await queue.add("n", {}, {"delay": delay})
    await wait_until(lambda: made.of(JobCompleted))
    # Upstream rounds up to whole seconds: it would be 300 ms late at best with these delays.
    assert late[0] < 290


async def test_leaked_cancellation_and_base_exceptions_end_the_job_only(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        if job.data["how"] == "cancelled":
            raise asyncio.CancelledError
        if job.data["how"] == "generator":
            raise GeneratorExit
        return Completed(result=None)

    made = await make_worker(work)
    for how in ("cancelled", "generator", "fine"):
        await queue.add("n", {"how": how}, {"jobId": how})
    await wait_until(lambda: len(made.of(JobFailed)) == 2 and made.of(JobCompleted))
    assert made.worker.health().ok
    assert "cancelled" in (await row(redis, prefix, "cancelled"))["failedReason"]
    assert "GeneratorExit" in (await row(redis, prefix, "generator"))["failedReason"]


async def test_rows_that_cannot_be_read_reach_the_execution_with_their_defects(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Failed(reason="; ".join(job.defects), error="D") if job.defects else Completed(result=None)

    rows: dict[str, Any] = {
        "data": {"data": "{nope"},
        "opts": {"opts": "[]"},
        "both": {"data": "NaN]", "opts": '"text"'},
        "numbers": {"ats": "x", "timestamp": "1e999", "atm": ""},
    }
    for name, fields in rows.items():
        await queue.add("n", {}, {"jobId": name, "delay": 60_000})
        await redis.hset(f"{prefix}:q:{name}", mapping=fields)
        job = await queue.getJobState(name)
        assert job == "delayed"
    made = await make_worker(work)
    await queue.promoteJobs()
    await wait_until(lambda: len(made.of(JobFailed)) == 4)
    assert "data: not JSON" in (await row(redis, prefix, "data"))["failedReason"]
    assert "opts: expected an object" in (await row(redis, prefix, "opts"))["failedReason"]
    assert "atm: expected a number" in (await row(redis, prefix, "numbers"))["failedReason"]
    assert {event.job_id for event in made.of(JobFailed)} == {"data", "opts", "both", "numbers"}
    await queue.add("n", {}, {"jobId": "after"})
    await wait_until(lambda: made.of(JobCompleted))
    assert made.worker.health().ok


async def test_unserialisable_result_is_still_a_success(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result={1, 2} if job.id == "set" else {"x": float("nan"), "s": "\ud800", "e": "é😀"})

    made = await make_worker(work)
    await queue.add("n", {}, {"jobId": "set"})
    await queue.add("n", {}, {"jobId": "nan"})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert "unserialisable" in json.loads((await row(redis, prefix, "set"))["returnvalue"])
    stored = json.loads((await row(redis, prefix, "nan"))["returnvalue"])
    assert stored == {"x": None, "s": "\ud800", "e": "é😀"}


async def test_drain_hands_back_with_nothing_spent(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    began = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        began.set()
        await hold.interrupted.wait()
        assert hold.interrupt is not None
        await asyncio.sleep(max(0, hold.interrupt.by - time.monotonic()))
        return HandedBack(reason=hold.interrupt.reason)

    made = await make_worker(work)
    first = await queue.add("n", {})
    await began.wait()
    second = await queue.add("n", {})
    await made.worker.stop(by=time.monotonic() + 1)
    assert made.worker.drained
    assert made.of(JobHandedBack)
    stored = await row(redis, prefix, first.id)
    assert (stored["ats"], stored.get("atm"), stored.get("stc")) == ("0", None, None)
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [second.id, first.id]  # the right end is the front
    assert await redis.llen(f"{prefix}:q:active") == 0


async def test_jobs_that_end_during_the_drain_are_kept_locked_until_then(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """The stock worker stops renewing as soon as one job ends while it closes; the other then runs twice."""
    runs: list[str] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        runs.append(job.id)
        await asyncio.sleep(0.2 if job.id == "short" else 2.5)
        return Completed(result=None)

    made = await make_worker(work, slots=2, lock_ms=1000, stalled_interval_ms=500)
    other = await make_worker(queue="unrelated")
    await queue.add("n", {}, {"jobId": "short"})
    await queue.add("n", {}, {"jobId": "long"})
    await wait_until(lambda: len(runs) == 2)
    closing = asyncio.create_task(made.worker.stop(by=time.monotonic() + 10))
    await wait_until(lambda: made.of(JobCompleted))
    rival = await make_worker(lock_ms=1000, stalled_interval_ms=300)
    await closing
    assert [event.job_id for event in made.of(JobCompleted)] == ["short", "long"]
    assert runs == ["short", "long"]
    assert not rival.of(JobActive)
    assert not other.of(JobActive)


async def test_stop_is_idempotent_and_legal_before_start(make_worker: MakeWorker, queue: Any) -> None:
    made = await make_worker()
    await made.worker.stop(by=time.monotonic() + 1)
    await made.worker.stop(by=time.monotonic() + 1)
    assert [event.state for event in made.of(WorkerState)] == ["running", "draining", "closed"]
    with pytest.raises(RuntimeError):
        await made.worker.start()
    await asyncio.wait_for(made.worker.wait(), 1)


async def test_stalled_job_of_a_dead_worker_is_taken_over(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    await queue.add("n", {}, {"jobId": "orphan"})
    await redis.rpoplpush(f"{prefix}:q:wait", f"{prefix}:q:active")  # a worker took it and died: no lock
    await redis.delete(f"{prefix}:q:marker")
    made = await make_worker(stalled_interval_ms=200)
    await wait_until(lambda: made.of(JobCompleted))
    assert (await row(redis, prefix, "orphan"))["stc"] == "1"


async def test_rate_limit_lets_only_so_many_start(make_worker: MakeWorker, queue: Any) -> None:
    started: list[float] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        started.append(time.monotonic())
        return Completed(result=None)

    made = await make_worker(work, slots=5, limiter={"max": 3, "duration": 400})
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(9)])
    await wait_until(lambda: len(made.of(JobCompleted)) == 9)
    assert started[8] - started[0] >= 0.7  # three windows; the stock worker would take 10 s


async def test_scheduler_goes_on_after_its_first_run(make_worker: MakeWorker, queue: Any) -> None:
    made = await make_worker()
    await queue.upsertJobScheduler("tick", {"every": 200}, "tick", {}, {})
    await wait_until(lambda: len(made.of(JobCompleted)) >= 4, timeout_s=5)
    await queue.removeJobScheduler("tick")
    assert not made.of(WorkerError)


@pytest.mark.parametrize(
    "bad",
    [
        {"data": "{nope"},
        {"data": '{"x":NaN}'},
        {"data": "[" * 5000},
        {"data": json.dumps({"x": "y" * 1000})},
        {"progress": "NaN]"},
    ],
    ids=["cut", "not_finite", "deep", "large", "progress"],
)
async def test_scheduler_goes_on_after_a_run_whose_row_can_not_be_read(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, bad: dict[Any, Any]
) -> None:
    """The next run has the scheduler's data, not those of the job that has just been started."""
    data: list[Any] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        data.append(job.data and job.data["some"])
        return Failed(reason=job.defects[0], error="DecodeError") if job.defects else Completed(result=None)

    tick = await queue.upsertJobScheduler("tick", {"every": 200}, "tick", {"some": "data"}, {})
    await redis.hset(f"{prefix}:q:{tick.id}", mapping=bad)
    made = await make_worker(work, bounds=Bounds(data_bytes=500))
    await wait_until(lambda: len(made.of(JobCompleted)) >= 2, timeout_s=5)
    await queue.removeJobScheduler("tick")
    assert len(made.of(JobFailed)) == ("data" in bad)
    assert data == [None if "data" in bad else "data", *["data"] * (len(data) - 1)]
    assert not made.of(WorkerError)

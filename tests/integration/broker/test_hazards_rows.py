"""Hazards H12, H13 and H19 of the package's worker: rows as hostile producers write them, results of any kind. The job
ends at once with the real reason, not after two stalls, and the worker lives.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue, Worker
from redis.asyncio import Redis

from tests.conftest import Made, MakeWorker, wait_until
from tests.integration.broker.processors import MAIL, Process, runs, succeeds
from workers.broker import result
from workers.broker.activation import MAX_OPTS, Activation, Bounds
from workers.broker.endings import Completed, Ending
from workers.broker.events import JobCompleted, JobFailed, JobLost, JobRetrying, JobStalled
from workers.broker.hold import Hold
from workers.contract import JobContext


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


#: After these nothing more is done with the job here.
ENDS = JobCompleted, JobFailed, JobLost


async def fails(task: Any, ctx: JobContext) -> None:
    raise ValueError("the real reason")


async def run_row(
    process: Process, fields: dict[str, str | None], make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> Made:
    """Start a worker on one job whose row has these fields (None: without it) and wait for its end."""
    await queue.add("n", MAIL, {"jobId": "bad"})
    key = f"{prefix}:q:bad"
    for field, text in fields.items():
        await (redis.hdel(key, field) if text is None else redis.hset(key, field, text))
    made = await make_worker(runs(process), stalled_interval_ms=30_000, bounds=Bounds(data_bytes=200_000, depth=100))
    await wait_until(lambda: [e for e in made.events if isinstance(e, ENDS) and e.job_id == "bad"], timeout_s=5)
    await queue.add("n", MAIL, {"jobId": "good"})
    await wait_until(lambda: [e for e in made.events if isinstance(e, ENDS) and e.job_id == "good"])
    assert made.worker.health().ok
    return made


async def assert_failed_at_once(made: Made, redis: Redis, prefix: str, reason: str) -> None:
    (event,) = [event for event in made.of(JobFailed) if event.job_id == "bad"]
    assert event.reason.startswith(reason)
    row = await redis.hgetall(f"{prefix}:q:bad")
    assert row["failedReason"] == event.reason
    assert (row["atm"], row.get("stc")) == ("1", None)
    assert await redis.zscore(f"{prefix}:q:failed", "bad") is not None
    assert await redis.llen(f"{prefix}:q:active") == 0
    assert not made.of(JobLost) and not made.of(JobStalled)


# ---------------------------------------------------------------- H13: bad rows


def opts(**options: Any) -> dict[str, str | None]:
    return {"opts": json.dumps(options)}


UNREADABLE: dict[str, tuple[dict[str, str | None], str]] = {
    "data is no JSON": ({"data": "{nope"}, "data: not JSON"),
    "data is absent": ({"data": None}, "data: not JSON"),
    "data is empty": ({"data": ""}, "data: not JSON"),
    "data is null": ({"data": "null"}, "data: expected an object, found null"),
    "data is nested too deeply": ({"data": "[" * 100_000}, "data.0.0.0.0"),
    "data has a number that is none": ({"data": '{"a": [NaN]}'}, "data.a.0: expected a finite number, found NaN"),
    "data has a number too large": ({"data": '{"a": 1e400}'}, "data.a: expected a finite number, found 1e400"),
    "data has a number too long": ({"data": "9" * 5000}, "data: expected an integer of at most 4,300 digits"),
    "data are too large to be parsed": ({"data": "x" * 200_001}, "data: 200,001 bytes, more than the 200,000 this"),
    "opts are no JSON": ({"opts": "x"}, "opts: not JSON"),
    "opts are a list": ({"opts": "[]"}, "opts: expected an object, found a list"),
    "opts are null": ({"opts": "null"}, "opts: expected an object, found null"),
    "opts are a number": ({"opts": "7"}, "opts: expected an object, found a number"),
    "opts have a number that is none": ({"opts": '{"delay": -Infinity}'}, "opts.delay: expected a finite number"),
    "opts are nested too deeply": ({"opts": '{"a":' * 5000}, "opts: nested too deeply"),
    "opts are too large to be parsed": ({"opts": "x" * (MAX_OPTS + 1)}, "opts: 1,048,577 characters, more than"),
    "all is absent": ({"data": None, "opts": None, "name": None, "timestamp": None}, "data: not JSON"),
}

#: The processor fails on these; what is wrong with the row must not hide why.
ODD: dict[str, dict[str, str | None]] = {
    "attempts null": opts(attempts=None),
    "attempts a text": opts(attempts="three"),
    "attempts negative": opts(attempts=-1),
    "no opts": {"opts": None},
    "name absent": {"name": None},
    "timestamp absent": {"timestamp": None},
    "timestamp a text": {"timestamp": "soon"},
    "priority a text": {"priority": "high"},
    "stacktrace no JSON": {"stacktrace": "x"},
    "stacktrace with a number that is none": {"stacktrace": '["x", NaN]'},
    "progress no JSON": {"progress": "NaN]"},
    "progress and result nested too deeply": {"progress": "[" * 5000, "returnvalue": "[" * 5000},
    "keep rules of no kind": opts(removeOnComplete="x", removeOnFail={"age": "y", "count": -9.5}, kl="z"),
    "scheduler unknown": {"rjk": "nobody"},
    "parent key alone": {"parentKey": "bull:gone:1"},
    "trace no JSON": opts(tm="{", telemetry=7),
}

UNKNOWN_BACKOFFS = {
    "of an unknown kind": {"type": "fibonacci", "delay": 60_000},
    "without its delay": {"type": "exponential"},
    "with a delay that is no number": {"type": "fixed", "delay": "1m"},
    "of no kind": {"delay": 60_000},
    "a text": "slowly",
    "a list": [60_000],
}


@pytest.mark.parametrize(("fields", "reason"), UNREADABLE.values(), ids=UNREADABLE)
async def test_row_that_can_not_be_read_fails_at_once_and_says_what_is_wrong(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, fields: dict[str, str | None], reason: str
) -> None:
    """H13: with the stock worker it stays active until it has stalled twice, and its reason is lost."""
    made = await run_row(succeeds, fields, make_worker, queue, redis, prefix)
    await assert_failed_at_once(made, redis, prefix, reason)


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
async def test_failure_of_a_job_with_an_odd_row_keeps_its_own_reason(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, fields: dict[str, str | None]
) -> None:
    made = await run_row(fails, fields, make_worker, queue, redis, prefix)
    await assert_failed_at_once(made, redis, prefix, "the real reason")


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
async def test_success_of_a_job_with_an_odd_row_is_success(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, fields: dict[str, str | None]
) -> None:
    made = await run_row(succeeds, fields, make_worker, queue, redis, prefix)
    assert {event.job_id for event in made.of(JobCompleted)} == {"bad", "good"}


@pytest.mark.parametrize("backoff", UNKNOWN_BACKOFFS.values(), ids=UNKNOWN_BACKOFFS)
async def test_backoff_that_makes_no_sense_is_replaced_by_the_queues(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, backoff: Any
) -> None:
    """H13: the stock worker raises while it computes the delay, and the job stays active."""
    made = await run_row(fails, opts(attempts=3, backoff=backoff), make_worker, queue, redis, prefix)
    assert [event.delay_s for event in made.of(JobRetrying) if event.job_id == "bad"] == [0, 0]
    row = await redis.hgetall(f"{prefix}:q:bad")
    assert (row["failedReason"], row["atm"], row.get("stc")) == ("the real reason", "3", None)


#: moveToFinished breaks off in the middle on these: the lock is gone, the job in no state or active for ever.
BREAKING: dict[str, dict[str, str | None]] = {
    "atm a text": {"atm": "x"},
    "atm a fraction": {"atm": "1.5"},
    "atm as large as it gets": {"atm": str(2**63 - 1)},
    "parent no JSON": {"parentKey": "bull:p:1", "parent": "x"},
    "parent without its queue": {"parentKey": "bull:p:1", "parent": '{"id": "1"}'},
    "parent without an id": {"parentKey": "bull:p:1", "parent": "[]"},
}


@pytest.mark.parametrize("fields", BREAKING.values(), ids=BREAKING)
async def test_row_that_bullmqs_script_breaks_on_fails_at_once_with_its_reason(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, fields: dict[str, str | None]
) -> None:
    """The reason is what is wrong with the row, or the processor's own where it ran."""
    made = await run_row(fails, fields, make_worker, queue, redis, prefix)
    (event,) = [event for event in made.of(JobFailed) if event.job_id == "bad"]
    assert event.reason.startswith(("atm: ", "parent: ", "the real reason"))
    assert await redis.hget(f"{prefix}:q:bad", "failedReason") == event.reason
    assert await redis.zscore(f"{prefix}:q:failed", "bad") is not None
    assert await redis.llen(f"{prefix}:q:active") == 0
    assert not made.of(JobLost) and not made.of(JobStalled)


# ----------------------------------------------------------------- H12: results


async def test_result_of_twenty_megabytes_is_stored_whole(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def process(task: Any, ctx: JobContext) -> str:
        return "é" * 10 * 2**20

    made = await make_worker(runs(process))
    job = await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobCompleted))
    assert await redis.hstrlen(f"{prefix}:q:{job.id}", "returnvalue") == 20 * 2**20 + 2


async def test_result_that_is_too_large_or_circular_is_a_success_that_says_so(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H12: the stock worker turns a success into a failure when it can't store what was returned."""
    monkeypatch.setattr(result, "MAX_RESULT", 1000)
    circle: dict[str, Any] = {}
    circle["self"] = circle

    async def process(task: Any, ctx: JobContext) -> Any:
        return "x" * 1001 if ctx.job_id == "large" else circle

    made = await make_worker(runs(process))
    for job_id in ("large", "circular"):
        await queue.add("n", MAIL, {"jobId": job_id})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert not made.of(JobFailed)
    rows: Any = {job_id: await redis.hgetall(f"{prefix}:q:{job_id}") for job_id in ("large", "circular")}
    said = {job_id: json.loads(row["returnvalue"])["unserialisable"] for job_id, row in rows.items()}
    assert said["large"] == "result of 1,003 characters, more than the 1,000 that are stored"
    assert "Circular reference" in said["circular"]


# -------------------------------------------------- H19: options that are shared


async def test_options_of_one_worker_reach_neither_another_worker_nor_the_job(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """H19: the package's constructors share one dict by default, and its worker writes its keep rules into the job's
    options.
    """
    seen: list[dict[str, Any]] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        seen.append(dict(job.opts))
        return Completed(result=job.opts)

    limiter = {"max": 1000, "duration": 1000}
    await queue.add("n", {}, {"jobId": "j", "attempts": 2})
    before: Any = await redis.hget(f"{prefix}:q:j", "opts")
    strict = await make_worker(work, limiter=limiter, keep_completed={"count": 5}, keep_failed={"count": 6})
    await wait_until(lambda: strict.of(JobCompleted))
    plain = await make_worker(work, queue="other")
    assert seen == [json.loads(before)]
    assert strict.of(JobCompleted)[0].result == json.loads(before)
    assert await redis.hget(f"{prefix}:q:j", "opts") == before
    assert plain.worker.settings.limiter is None and plain.worker.settings.keep_completed is False
    assert limiter == {"max": 1000, "duration": 1000}
    assert strict.worker.opts is not plain.worker.opts
    assert Worker.__init__.__defaults__ == ({},)

"""Failures of jobs that Node added: attempts, back-off, what Node sees of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js, eventually
from workers.broker.events import JobDelayed, JobFailed, JobRetrying

pytestmark = pytest.mark.node
conform = pytest.mark.conform


@conform("Retries", "attempts")
async def test_job_succeeds_with_its_third_attempt(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    await js.listen("q")
    job = await js.add("q", [["fail_times", 2]], attempts=3)
    assert "result" in await js.wait("q", job["id"])
    seen = await js.job("q", job["id"])
    assert (seen["attemptsMade"], seen["attemptsStarted"]) == (3, 3)
    assert [line.splitlines()[0] for line in seen["stacktrace"]] == ["Error: attempt 1", "Error: attempt 2"]
    await wait_until(lambda: js.heard("completed"))
    assert not js.heard("failed") and not js.heard("retries-exhausted")


@conform("Retries", "retries-exhausted, failed")
async def test_node_hears_once_that_the_attempts_are_used_up(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    await js.listen("q")
    job = await js.add("q", [["fail_times", 9]], attempts=2)
    assert await js.wait("q", job["id"]) == {"reason": "attempt 2"}
    await wait_until(lambda: js.heard("retries-exhausted"))
    assert [(e["jobId"], e["attemptsMade"]) for e in js.heard("retries-exhausted")] == [(job["id"], "2")]
    assert [(e["jobId"], e["failedReason"]) for e in js.heard("failed")] == [(job["id"], "attempt 2")]
    assert (await js.job("q", job["id"]))["attemptsMade"] == 2


@conform("Retries", "UnrecoverableError")
async def test_failure_for_good_uses_no_further_attempt(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    job = await js.add("q", [["unrecoverable", "gone"]], attempts=5)
    assert await js.wait("q", job["id"]) == {"reason": "gone"}
    assert (await js.job("q", job["id"]))["attemptsMade"] == 1
    assert len(made.of(JobFailed)) == 1 and not made.of(JobRetrying)


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        pytest.param(None, [0, 0], marks=conform("Retries", "at once")),
        pytest.param(50, [50, 50], marks=conform("Retries", "backoff as a number")),
        pytest.param({"type": "fixed", "delay": 40}, [40, 40], marks=conform("Retries", "fixed backoff")),
        pytest.param({"type": "exponential", "delay": 20}, [20, 40], marks=conform("Retries", "exponential backoff")),
        pytest.param(
            {"type": "exponential", "delay": 40, "jitter": 0.5},
            [30, 60],
            marks=conform("Retries", "jitter"),
        ),
    ],
    ids=["none", "number", "fixed", "exponential", "jitter"],
)
async def test_waits_are_those_that_node_would_compute(
    js: Js, make_worker: MakeWorker, backoff: Any, waits: list[int]
) -> None:
    """Node 5.53.2 ignores the jitter; half of it, as we draw here, is within what 6.x draws."""
    made = await make_worker(acts)
    opts = {} if backoff is None else {"backoff": backoff}
    job = await js.add("q", [["fail_times", 9]], attempts=3, **opts)
    assert await js.wait("q", job["id"]) == {"reason": "attempt 3"}
    assert [round(event.delay_s * 1000) for event in made.of(JobRetrying)] == waits


@conform("Retries", "stackTraceLimit")
async def test_only_so_many_stack_traces_are_kept(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["fail_times", 9]], attempts=5, stackTraceLimit=2)
    await js.wait("q", job["id"])
    seen = await js.job("q", job["id"])
    assert [line.splitlines()[0] for line in seen["stacktrace"]] == ["Error: attempt 4", "Error: attempt 5"]


@conform("Retries", "job.retry after the last attempt")
async def test_failed_job_that_node_retries_is_run_again(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts)
    job = await js.add("q", [["fail_times", 1]])
    assert await js.wait("q", job["id"]) == {"reason": "attempt 1"}
    await js.job("q", job["id"], "retry")

    async def done() -> bool:
        return bool(await js.job("q", job["id"], "getState") == "completed")

    await eventually(done)
    seen = await js.job("q", job["id"])
    assert (seen["attemptsMade"], seen["failedReason"]) == (2, None)


@conform("Retries", "DelayedError: put off without an attempt")
async def test_job_that_puts_itself_off_is_delayed_for_node(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    await js.listen("q")
    job = await js.add("q", [["delay_once", 300]], attempts=1)
    await wait_until(lambda: made.of(JobDelayed))
    assert await js.job("q", job["id"], "getState") == "delayed"
    assert "result" in await js.wait("q", job["id"])
    seen = await js.job("q", job["id"])
    assert (seen["attemptsMade"], seen["attemptsStarted"]) == (1, 2)
    assert [event["jobId"] for event in js.heard("delayed")] == [job["id"]]


@conform("Retries", "WaitingError: back to the front of the queue", since=6)
async def test_job_that_goes_back_to_wait_is_told_as_by_node(js: Js, make_worker: MakeWorker) -> None:
    for queue in ("ours", "nodes"):
        await js.listen(queue)
        await js.add(queue, [["requeue_once", None]], jobId="steps", attempts=1)
        await js.add(queue, jobId="other")
    await make_worker(acts, queue="ours")
    await js.work("nodes")
    for queue in ("ours", "nodes"):
        assert "result" in await js.wait(queue, "other")
        seen = await js.job(queue, "steps")
        assert (seen["attemptsMade"], seen["attemptsStarted"]) == (1, 2)
        await wait_until(lambda: len(js.heard("completed", queue)) == 2)  # noqa: B023 - awaited at once
    told = [
        [(name, event["jobId"]) for name in ("waiting", "active", "completed") for event in js.heard(name, queue)]
        for queue in ("ours", "nodes")
    ]
    assert told[0] == told[1]


@conform("Retries", "maxStartedAttempts", since=6)
async def test_job_that_is_started_too_often_fails_as_with_node(js: Js, make_worker: MakeWorker) -> None:
    await make_worker(acts, queue="ours", max_starts=2)
    await js.work("nodes", maxStartedAttempts=2)
    seen = []
    for queue in ("ours", "nodes"):
        job = await js.add(queue, [["delay", 20]], attempts=1)
        assert await js.wait(queue, job["id"]) == {"reason": "job started more than allowable limit"}
        seen.append(await js.job(queue, job["id"]))
    counts = [(job["attemptsMade"], job["attemptsStarted"]) for job in seen]
    assert counts[0] == counts[1] == (1, 3)


@conform("Stalled jobs", "a stalled job runs again; maxStalledCount")
async def test_job_that_stalls_too_often_fails_in_bullmqs_words(
    js: Js, make_worker: MakeWorker, redis: Any, prefix: str
) -> None:
    await js.listen("q")
    job = await js.add("q")
    await redis.rpoplpush(f"{prefix}:q:wait", f"{prefix}:q:active")  # a worker took it and died: no lock
    made = await make_worker(acts, stalled_interval_ms=50, max_stalls=0)
    assert await js.wait("q", job["id"]) == {"reason": "job stalled more than allowable limit"}
    assert [event.error for event in made.of(JobFailed)] == ["Deferred"]
    await wait_until(lambda: js.heard("failed"))

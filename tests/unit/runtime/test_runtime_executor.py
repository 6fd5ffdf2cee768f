"""One job through decode, run and decide: whatever it carries and however its processor behaves, it gets an ending."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.email_send import EmailSend
from tasks.limits import Limits as DataLimits
from workers.broker.activation import Activation, parse
from workers.broker.backend import MAX_REASON, MAX_STACK
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.hold import Hold, Interrupt
from workers.contract import Cancel, HandBack, JobContext, PermanentError, Snooze, TransientError, Verdict, retry_all
from workers.runtime import ladder
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import MAX_DELAY_MS, RetryPolicy

pytestmark = pytest.mark.usefixtures("complaints")

NOW = 1_800_000_000.0
MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
NEVER = 3600.0

MakeHold = Callable[..., Hold]
Process = Callable[[Any, JobContext], Awaitable[Any]]


async def sends(task: EmailSend, ctx: JobContext) -> Any:
    return {"success": True, "to": task.to}


def executor(process: Process = sends, *, limits: dict[str, Any] | None = None, **plan: Any) -> Executor:
    values = {"max_data_bytes": 1000, "unknown_delay_s": 30.0, "unknown_give_up_s": 3600.0, **(limits or {})}
    parts: dict[str, Any] = {
        "classify": retry_all,
        "ladder": Ladder.timeout(NEVER),
        "retry": RetryPolicy(attempts=3, delay_s=2),
    }
    served = {"email-send": Plan(isolation=Inline(process), **{**parts, **plan})}
    return Executor(served, Limits(**values), draw=lambda: 0.5, clock=lambda: NOW)


@pytest.fixture
def execute(make_hold: MakeHold) -> Callable[..., Awaitable[Ending]]:
    """Runs one job of this data to its ending."""

    def run(process: Process = sends, *, data: Any = MAIL, job: dict[str, Any] | None = None, **plan: Any) -> Any:
        hold = make_hold(data=data, timestamp=round(NOW * 1000), **(job or {}))
        return executor(process, **plan).execute(hold.job, hold)

    return run


Execute = Callable[..., Awaitable[Ending]]


def outcome(value: Any) -> Process:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        return value

    return process


def raises(error: BaseException) -> Process:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        raise error

    return process


# ---------------------------------------------------------------------- decode


async def test_processor_gets_its_task_and_the_result_is_kept(execute: Execute) -> None:
    assert await execute() == Completed(result={"success": True, "to": ["a@example.com"]})


async def test_defects_of_the_row_fail_the_job_with_their_words(execute: Execute) -> None:
    ending = await execute(job={"defects": ("data: not JSON", "opts: nested too deeply")})
    assert ending == Failed(reason="data: not JSON; opts: nested too deeply", error="DecodeError")


async def test_data_above_the_limit_fails_and_names_the_setting(execute: Execute) -> None:
    ending = await execute(job={"data_bytes": 1001})
    reason = "data: 1,001 bytes, more than the 1,000 this queue accepts (max_data)"
    assert ending == Failed(reason=reason, error="DecodeError")
    assert isinstance(await execute(job={"data_bytes": 1000}), Completed)


@pytest.mark.parametrize(
    ("data", "limits", "words"),
    [
        ({"extra": [[[1]]]}, {"max_depth": 4}, None),
        ({"extra": [[[1]]]}, {"max_depth": 3}, "data.extra.0.0: expected at most 3 levels, found more"),
        ({"extra": "x" * 9}, {"max_chars": 9}, "data: expected at most 9 characters in all, found more"),
    ],
)
async def test_data_beyond_the_bounds_of_the_queue_fail_at_once(
    make_hold: MakeHold, data: Any, limits: dict[str, Any], words: str | None
) -> None:
    hold = make_hold(data=MAIL | data)
    ending = await executor(limits={"data": DataLimits(**limits)}).execute(hold.job, hold)
    assert isinstance(ending, Completed) if words is None else ending == Failed(reason=words, error="DecodeError")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1], "data: expected an object, found a list"),
        (None, "data: expected an object"),
        ({}, "data.type: expected a string, found nothing"),
        ({"type": 7}, "data.type: expected a string, found 7"),
        ({**MAIL, "to": ["a", 7]}, "data.to.1: expected a string, found 7"),
        ({**MAIL, "to": []}, "data.to"),
    ],
)
async def test_invalid_data_fails_at_once_with_the_field(execute: Execute, data: Any, words: str) -> None:
    ending = await execute(data=data, job={"opts": {"attempts": 9}})
    assert isinstance(ending, Failed)
    assert ending.error == "DecodeError"
    assert ending.reason.startswith(words)


async def test_unknown_fields_reach_the_processor(execute: Execute) -> None:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        return task.model_extra

    assert await execute(process, data={**MAIL, "later": {"x": 1}}) == Completed(result={"later": {"x": 1}})


# ---------------------------------------------------------------- unknown types

HOUR_MS = 3_600_000
UNKNOWN = {"type": "teleport", "id": "1"}


@pytest.mark.parametrize(
    ("job", "ending"),
    [
        ({}, Delayed),
        ({"timestamp": round(NOW * 1000) - HOUR_MS + 1}, Delayed),
        ({"timestamp": round(NOW * 1000) - HOUR_MS}, Failed),
        ({"timestamp": 0}, Failed),
        # it was due just now, however long ago it was added
        ({"timestamp": round(NOW * 1000) - 5 * HOUR_MS, "opts": {"delay": 5 * HOUR_MS - 10}}, Delayed),
        # a timestamp in the future would put it off until then; its starts are counted instead
        ({"timestamp": 2**53 - 1, "fence": 1}, Delayed),
        ({"timestamp": 2**53 - 1, "fence": 120}, Delayed),
        ({"timestamp": 2**53 - 1, "fence": 121}, Failed),
        ({"opts": {"delay": 10**400}, "fence": 121}, Delayed),
    ],
)
async def test_unknown_type_is_put_off_while_young_and_then_fails(
    make_hold: MakeHold, job: dict[str, Any], ending: type
) -> None:
    hold = make_hold(data=UNKNOWN, **{"timestamp": round(NOW * 1000), **job})
    ended = await executor().execute(hold.job, hold)
    assert type(ended) is ending
    assert "teleport" in ended.reason  # type: ignore[union-attr]
    if isinstance(ended, Delayed):
        assert ended.delay_ms == 30_000
    if isinstance(ended, Failed):
        assert ended.error == "UnknownTaskType"


async def test_newer_schema_is_put_off_while_young_and_then_fails(make_hold: MakeHold) -> None:
    newer, now = MAIL | {"schemaVersion": 99}, round(NOW * 1000)
    young, old = make_hold(data=newer, timestamp=now), make_hold(data=newer, timestamp=now - HOUR_MS)
    reason = "data.schemaVersion: expected at most 1 for email-send, found 99 (integer)"
    assert await executor().execute(young.job, young) == Delayed(delay_ms=30_000, reason=reason)
    assert await executor().execute(old.job, old) == Failed(reason=reason, error="NewerSchema")


async def test_known_type_that_this_queue_does_not_serve_is_put_off_too(make_hold: MakeHold) -> None:
    hold = make_hold(data=MAIL, timestamp=round(NOW * 1000))
    nothing = Executor({}, Limits(max_data_bytes=9, unknown_delay_s=1, unknown_give_up_s=9), clock=lambda: NOW)
    ended = await nothing.execute(hold.job, hold)
    assert ended == Delayed(delay_ms=1000, reason="data.type: 'email-send' is not served on queue q")


# ---------------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("value", "ending"),
    [
        (Snooze(delay_s=1.5, reason="later"), Delayed(delay_ms=1500, reason="later")),
        (Snooze(delay_s=-1, reason="now"), Delayed(delay_ms=0, reason="now")),
        (Snooze(delay_s=1e306, reason="never"), Delayed(delay_ms=MAX_DELAY_MS, reason="never")),
        (Cancel(reason="gone"), Failed(reason="gone", error="Cancel")),
        (None, Completed(result=None)),
        (Snooze, Completed(result=Snooze)),
    ],
)
async def test_outcome_becomes_its_ending(execute: Execute, value: Any, ending: Ending) -> None:
    assert await execute(outcome(value)) == ending


@pytest.mark.parametrize("delay", [math.nan, math.inf, "3", None, 10**400])
async def test_snooze_for_no_number_of_seconds_is_a_failure(execute: Execute, delay: Any) -> None:
    ending = await execute(outcome(Snooze(delay_s=delay, reason="r")))
    assert isinstance(ending, Retry)
    assert ending.reason.startswith("the processor returned Snooze(delay_s=")


async def test_reasons_of_outcomes_are_text_that_redis_holds(execute: Execute) -> None:
    ending = await execute(outcome(Cancel(reason="\ud800" + "x" * 10**6)))
    assert isinstance(ending, Failed)
    assert len(ending.reason) == MAX_REASON
    ending.reason.encode()


async def test_hand_back_that_nobody_asked_for_is_a_failure(execute: Execute) -> None:
    ending = await execute(outcome(HandBack(reason="bored")))
    assert isinstance(ending, Retry)
    assert "nobody had asked" in ending.reason


@pytest.mark.parametrize("kind", ["drain", "lock_lost"])
async def test_stop_request_is_seen_and_its_outcome_is_right(make_hold: MakeHold, kind: Any) -> None:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        before.append(ctx.stop)
        hold.ask_back(Interrupt(kind, "host says", time.monotonic() + NEVER))
        stop = ctx.stop
        return stop.outcome() if stop is not None else None

    before: list[Any] = []
    hold = make_hold(data=MAIL)
    assert await executor(process).execute(hold.job, hold) == HandedBack(reason="host says")
    assert before == [None]


@pytest.mark.parametrize(
    ("kind", "ending"), [("drain", HandedBack(reason="host says")), ("lock_lost", Lost(reason="host says"))]
)
async def test_interrupted_run_ends_as_its_interrupt_says(make_hold: MakeHold, kind: Any, ending: Ending) -> None:
    async def process(task: EmailSend, ctx: JobContext) -> Any:
        hold.ask_back(Interrupt(kind, "host says", time.monotonic()))
        await asyncio.Event().wait()

    hold = make_hold(data=MAIL)
    assert await executor(process).execute(hold.job, hold) == ending


async def test_context_tells_attempt_fence_and_the_nearest_end(make_hold: MakeHold) -> None:
    told: list[Any] = []

    async def process(task: EmailSend, ctx: JobContext) -> Any:
        hold.ask_back(Interrupt("drain", "r", time.monotonic() + 10 * NEVER))
        assert ctx.stop is not None
        told.extend([ctx.job_id, ctx.attempt, ctx.fence, ctx.stop.by == ctx.deadline])

    hold = make_hold(data=MAIL, id="j", attempts_made=2, fence=5)
    await executor(process).execute(hold.job, hold)
    assert told == ["j", 3, 5, True]


# ---------------------------------------------------------------------- failures


async def test_failure_is_retried_then_final_with_class_and_stack(execute: Execute) -> None:
    ending = await execute(raises(ValueError("broken")))
    assert isinstance(ending, Retry)
    assert (ending.reason, ending.error, ending.delay_ms) == ("broken", "ValueError", 2000)
    assert ending.stack.startswith("Traceback") and ending.stack.rstrip().endswith("ValueError: broken")
    ending = await execute(raises(ValueError("broken")), job={"attempts_made": 2})
    assert isinstance(ending, Failed)
    assert ending.stack


async def test_permanent_error_fails_at_once(execute: Execute) -> None:
    ending = await execute(raises(PermanentError("bad address")), job={"opts": {"attempts": 9}})
    assert isinstance(ending, Failed)
    assert (ending.reason, ending.error) == ("bad address", "PermanentError")


@pytest.mark.parametrize(("after_s", "wait"), [(60, 60_000), (1, 2000), (None, 2000), (1e306, MAX_DELAY_MS)])
async def test_transient_error_is_retried_not_before_it_says(execute: Execute, after_s: Any, wait: int) -> None:
    ending = await execute(raises(TransientError("busy", retry_after_s=after_s)))
    assert isinstance(ending, Retry)
    assert ending.delay_ms == wait


def permanent(error: Exception) -> Verdict:
    return Verdict(retry=not isinstance(error, KeyError))


async def test_other_errors_are_classified_by_the_module(execute: Execute) -> None:
    assert isinstance(await execute(raises(KeyError("k")), classify=permanent), Failed)
    assert isinstance(await execute(raises(ValueError("v")), classify=permanent), Retry)


async def test_classification_that_breaks_leaves_the_failure_retryable(
    execute: Execute, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(error: Exception) -> Verdict:
        raise ZeroDivisionError

    assert isinstance(await execute(raises(ValueError("v")), classify=breaks), Retry)
    assert isinstance(await execute(raises(ValueError("v")), classify=lambda error: None), Retry)
    assert [record.message[:33] for record in caplog.records] == [
        "a module's classify failed; the f",
        "a module's classify returned None",
    ]


class MuteError(Exception):
    """It can't be printed."""

    def __str__(self) -> str:
        raise self


@pytest.mark.parametrize(
    ("error", "reason", "name"),
    [
        (TimeoutError(), "TimeoutError", "TimeoutError"),
        (MuteError(), "MuteError (its message can't be read)", "MuteError"),
        (SystemExit(1), "the processor raised SystemExit: 1", "EscapedError"),
        (asyncio.CancelledError(), "the processor raised CancelledError", "EscapedError"),
        (ExceptionGroup("both", [ValueError("a"), KeyError("b")]), "both (2 sub-exceptions)", "ExceptionGroup"),
    ],
)
async def test_every_failure_has_words_and_a_name(
    execute: Execute, error: BaseException, reason: str, name: str
) -> None:
    ending = await execute(raises(error))
    assert isinstance(ending, Retry)
    assert (ending.reason, ending.error) == (reason, name)


async def test_words_and_stack_of_a_failure_are_bounded(execute: Execute) -> None:
    ending = await execute(raises(ValueError("\ud800" + "x" * 10**6)))
    assert isinstance(ending, Retry)
    assert len(ending.reason) == MAX_REASON
    ending.reason.encode()
    assert len(ending.stack) == MAX_STACK

    def deep(task: EmailSend, ctx: JobContext) -> Awaitable[Any]:
        return deep(task, ctx)

    ending = await execute(deep)
    assert isinstance(ending, Retry)
    assert ending.error == "RecursionError"
    assert ending.stack.count("in deep") <= 30


async def test_time_out_is_retried_and_says_whether_the_run_still_runs(
    execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "CLEANUP_S", 0.01)
    monkeypatch.setattr(ladder, "KILL_S", 0.01)
    released = asyncio.Event()

    async def hangs(task: EmailSend, ctx: JobContext) -> Any:
        await asyncio.Event().wait()

    async def ignores(task: EmailSend, ctx: JobContext) -> Any:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    ending = await execute(hangs, ladder=Ladder.timeout(0.02))
    assert ending == Retry(
        reason="timed out after 0.02 s at rung cancel", error="Timeout", failure="timed-out", delay_ms=2000
    )
    ending = await execute(hangs, ladder=Ladder.timeout(0.02), job={"attempts_made": 2})
    assert ending == Failed(reason="timed out after 0.02 s at rung cancel", error="Timeout", failure="timed-out")
    ending = await execute(ignores, ladder=Ladder.timeout(0.02))
    assert isinstance(ending, Retry)
    assert ending.reason.endswith("it ignored its cancellation and may still be running")
    released.set()


async def test_cancelled_execution_cancels_the_processor(make_hold: MakeHold) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def process(task: EmailSend, ctx: JobContext) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    hold = make_hold(data=MAIL)
    executing = asyncio.create_task(executor(process).execute(hold.job, hold))
    await begun.wait()
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    await asyncio.wait_for(ended.wait(), 20)


# ------------------------------------------------------------------- whatever comes

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
mails = st.fixed_dictionaries(
    {"type": st.sampled_from(["email-send", "teleport"]) | anything},
    optional={"id": anything, "to": anything, "subject": anything, "text": anything, "html": anything, "x": anything},
)
options = st.fixed_dictionaries({}, optional={key: anything for key in ("attempts", "backoff", "delay", "tm")})
endings = (Completed, Failed, Retry, Delayed)


@given(data=mails | anything, opts=options | anything, row=st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_any_job_ends_somehow(data: Any, opts: Any, row: dict[str, str]) -> None:
    job = parse("q", "1", {**row, "data": json.dumps(data), "opts": json.dumps(opts)}, "t")
    for process in (sends, raises(ValueError("no"))):
        ending = asyncio.run(_executed(process, job))
        assert isinstance(ending, endings)


async def _executed(process: Process, job: Activation) -> Ending:
    hold = Hold(job, None, lambda error, where, job_id: None)  # type: ignore[arg-type]
    return await executor(process).execute(job, hold)

"""A job that somebody cancels does not run again, whatever its run does then; a result that it has reached stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from workers.broker.endings import CANCELLED, Completed, Ending, Failed, Lost
from workers.broker.hold import Hold, Interrupt
from workers.contract import (
    BudgetError,
    Cancel,
    HandBack,
    JobContext,
    Park,
    PermanentError,
    Requeue,
    Snooze,
    StopRequest,
    TimeUp,
    TransientError,
    WaitForChildren,
    retry_all,
)
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder, Rung
from workers.runtime.requests import Requests
from workers.runtime.retry import RetryPolicy

pytestmark = pytest.mark.usefixtures("complaints")

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
NEVER = 3600.0
WHY = "cancelled by ann: a mistake"
GONE = Failed(reason=WHY, error=CANCELLED)

MakeHold = Callable[..., Hold]


def cancel(by: float = NEVER) -> Interrupt:
    return Interrupt("cancel", WHY, time.monotonic() + by, 0.1)


def executor(process: Callable[[Any, JobContext], Awaitable[Any]], ladder: Ladder | None = None) -> Executor:
    plan = Plan(
        isolation=Inline(process),
        classify=retry_all,
        ladder=ladder or Ladder.timeout(NEVER),
        retry=RetryPolicy(attempts=9),
    )
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
    return Executor({"email-send": plan}, limits)


ENDS: dict[str, Callable[[], Any]] = {
    "its own stop": lambda: Cancel(reason="stopped"),
    "hand-back": lambda: HandBack(reason="r"),
    "snooze": lambda: Snooze(delay_s=5, reason="r"),
    "park": lambda: Park(reason="r"),
    "requeue": lambda: Requeue(reason="r"),
    "children": lambda: WaitForChildren(reason="r"),
    "time up": lambda: TimeUp(reason="r"),
    "transient": lambda: TransientError("broken"),
    "permanent": lambda: PermanentError("broken"),
    "budget": lambda: BudgetError("broken"),
    "unknown": lambda: ValueError("broken"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_run_that_was_asked_to_stop_fails_for_good_however_it_ends(
    make_hold: MakeHold, end: Callable[[], Any]
) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        hold.ask_back(cancel())
        value = end()
        if isinstance(value, Exception):
            raise value
        return value

    hold = make_hold(data=MAIL)
    assert await executor(process).execute(hold.job, hold) == GONE


async def test_run_sees_who_stops_it_and_its_outcome_is_right(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        hold.ask_back(cancel())
        assert ctx.stop is not None
        seen.append(ctx.stop)
        return ctx.stop.outcome()

    hold, seen = make_hold(data=MAIL), list[StopRequest]()
    assert await executor(process).execute(hold.job, hold) == GONE
    assert [(stop.kind, stop.reason) for stop in seen] == [("stop", WHY)]


async def test_run_that_does_not_heed_is_cut_off_after_its_grace(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        hold.ask_back(cancel(by=0.01))
        await asyncio.Event().wait()

    hold = make_hold(data=MAIL)
    assert await executor(process).execute(hold.job, hold) == GONE


async def test_result_that_was_reached_all_the_same_stands(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        hold.ask_back(cancel())
        return {"done": True}

    hold = make_hold(data=MAIL)
    assert await executor(process).execute(hold.job, hold) == Completed(result={"done": True})


async def test_time_that_is_up_meanwhile_is_no_attempt_to_come(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        hold.ask_back(cancel())
        await asyncio.Event().wait()

    hold = make_hold(data=MAIL)
    ladder = Ladder((Rung(do="cancel", at_s=0.02),))
    assert await executor(process, ladder).execute(hold.job, hold) == GONE


async def test_lock_that_is_lost_outranks_it(make_hold: MakeHold) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        hold.ask_back(cancel())
        hold.ask_back(Interrupt("lock_lost", "gone", time.monotonic()))
        await asyncio.Event().wait()

    hold = make_hold(data=MAIL)
    assert await executor(process).execute(hold.job, hold) == Lost(reason="gone")


@pytest.mark.parametrize("status", ["Canceling", "canceling", "SUGGESTED"])
async def test_job_whose_status_asks_to_stop_never_runs(make_hold: MakeHold, status: str) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        raise AssertionError

    hold = make_hold(data={**MAIL, "status": status})
    ending = await executor(process).execute(hold.job, hold)
    assert isinstance(ending, Failed)
    assert (ending.reason, ending.error) == (
        f"cancelled before it ran: its data.status was {status.capitalize()}",
        CANCELLED,
    )


async def test_one_whose_data_are_wrong_besides_is_cancelled_all_the_same(make_hold: MakeHold) -> None:
    hold = make_hold(data={"type": "email-send", "status": "Canceling"})
    ending: Ending = await executor(lambda task, ctx: asyncio.sleep(0)).execute(hold.job, hold)
    assert isinstance(ending, Failed) and ending.error == CANCELLED


@pytest.mark.parametrize("status", ["Scheduled", "Running", "Failed", "Paused", "whatever", 5, None])
async def test_any_other_status_lets_it_run(make_hold: MakeHold, status: Any) -> None:
    async def process(task: Any, ctx: JobContext) -> Any:
        return "ran"

    hold = make_hold(data={**MAIL, "status": status})
    ending = await executor(process).execute(hold.job, hold)
    assert isinstance(ending, Completed) or "data.status" in getattr(ending, "reason", "")
    assert getattr(ending, "error", "") != CANCELLED


async def test_cancellation_outranks_a_time_that_is_up_and_a_drain(hold: Hold) -> None:
    requests = Requests(hold, 100.0)
    requests.ask(StopRequest(kind="deadline", reason="over", by=70.0))
    hold.ask_back(Interrupt("cancel", WHY, 90.0))
    assert requests.stop == StopRequest(kind="stop", reason=WHY, by=70.0)
    hold.ask_back(Interrupt("drain", "shutting down", 60.0))
    assert requests.stop == StopRequest(kind="stop", reason=WHY, by=60.0)

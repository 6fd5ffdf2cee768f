"""The kind of failure that a run's end becomes, all the way into its ending."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.broker.endings import Failed, Retry
from workers.broker.hold import Hold
from workers.contract import (
    BudgetError,
    CrashedError,
    PermanentError,
    RateLimitError,
    Snooze,
    TransientError,
    UserError,
    Verdict,
    retry_all,
)
from workers.runtime.containment import EscapedError
from workers.runtime.decision import MAX_NAME, Decision
from workers.runtime.isolation.call import RemoteError
from workers.runtime.retry import RetryPolicy
from workers.runtime.run_end import Raised, Returned, RunEnd, TimedOut

MakeHold = Callable[..., Hold]


def decision(classify: Callable[[Exception], Verdict] = retry_all, backoff: Any = None, attempts: int = 3) -> Decision:
    return Decision(classify, backoff, RetryPolicy(attempts=attempts, delay_s=2), lambda: 0.5)


async def decide(end: RunEnd, make_hold: MakeHold, *, by: Decision | None = None, **job: Any) -> Any:
    hold = make_hold(**job)
    return await (by or decision()).ending(end, hold.job, hold)


@pytest.mark.parametrize(
    ("end", "failure", "again"),
    [
        (Raised(ValueError("v")), "transient", True),
        (Raised(OSError("no")), "transient", True),
        (Raised(TransientError("t")), "transient", True),
        (Raised(RateLimitError("429")), "rate-limited", True),
        (Raised(CrashedError("SIGSEGV")), "crashed", True),
        (Raised(EscapedError(SystemExit(3))), "crashed", True),
        (Raised(MemoryError()), "crashed", True),
        (Raised(PermanentError("p")), "permanent", False),
        (Raised(BudgetError("b")), "budget", False),
        (Raised(UserError("u")), "user", False),
        (Raised(RemoteError("KeyError", "k", "", Verdict(failure="user"))), "user", False),
        (Returned(Snooze(float("nan"), "later")), "transient", True),
        (TimedOut(5, False), "timed-out", True),
    ],
    ids=lambda value: "",
)
async def test_every_failed_attempt_has_its_kind_with_attempts_left_and_without(
    make_hold: MakeHold, end: RunEnd, failure: str, again: bool
) -> None:
    ending = await decide(end, make_hold)
    assert (type(ending), ending.failure) == (Retry if again else Failed, failure)
    ending = await decide(end, make_hold, attempts_made=2)
    assert (type(ending), ending.failure) == (Failed, failure)


async def test_what_another_process_raised_keeps_its_name_words_and_stack(make_hold: MakeHold) -> None:
    error = RemoteError("acme.NoSuchBank", "bank 7 is unknown", "Traceback: line 9", Verdict(failure="user"))
    ending = await decide(Raised(error), make_hold)
    assert ending == Failed(
        reason="bank 7 is unknown", error="acme.NoSuchBank", stack="Traceback: line 9", failure="user"
    )


async def test_name_of_a_class_is_bounded_wherever_it_comes_from(make_hold: MakeHold) -> None:
    here = type("E" * 10_000, (ValueError,), {})("no")
    for error in (here, RemoteError("E" * 10_000, "no", "x" * 100_000, Verdict())):
        ending = await decide(Raised(error), make_hold)
        assert len(ending.error) == MAX_NAME
        assert len(ending.stack) <= 16_384


async def test_strategy_that_ends_the_attempts_does_not_change_the_kind(make_hold: MakeHold) -> None:
    by = decision(backoff=lambda *about: None)
    opts = {"attempts": 9, "backoff": {"type": "own"}}
    ending = await decide(Raised(RateLimitError("429")), make_hold, by=by, opts=opts)
    assert (type(ending), ending.failure) == (Failed, "rate-limited")

"""Each outcome has its ending; what a processor must not return is said in words."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from workers.broker.backend import MAX_REASON
from workers.broker.endings import (
    AwaitingChildren,
    Completed,
    Delayed,
    Ending,
    Failed,
    HandedBack,
    RateLimited,
    Requeued,
)
from workers.contract import Cancel, HandBack, Outcome, Park, Requeue, Snooze, TimeUp, WaitForChildren
from workers.contract import RateLimited as RateLimit
from workers.runtime.outcome import FREE_STARTS, PAUSE_MS, ending_of
from workers.runtime.retry import MAX_DELAY_MS

LATE = FREE_STARTS
EVERY: list[Any] = [
    Snooze(delay_s=1, reason=""),
    RateLimit(delay_s=1),
    Park(reason=""),
    Requeue(),
    WaitForChildren(),
    Cancel(reason=""),
    HandBack(reason=""),
]


@pytest.mark.parametrize(
    ("value", "ending"),
    [
        (Snooze(delay_s=1.5, reason="later"), Delayed(delay_ms=1500, reason="later")),
        (Park(reason="paused", wake_s=60), Delayed(delay_ms=60_000, reason="paused")),
        (RateLimit(delay_s=2, reason="429"), RateLimited(delay_ms=2000, reason="429")),
        (RateLimit(delay_s=0.0001), RateLimited(delay_ms=1, reason="rate limited")),
        (RateLimit(delay_s=1e306), RateLimited(delay_ms=MAX_DELAY_MS, reason="rate limited")),
        (Requeue(), Requeued(reason="goes on with its next step")),
        (WaitForChildren(), AwaitingChildren(reason="waits for its children")),
        (Cancel(reason="gone"), Failed(reason="gone", error="Cancel")),
        ({"a": 1}, Completed(result={"a": 1})),
        (RateLimit, Completed(result=RateLimit)),
    ],
)
def test_outcome_becomes_its_ending(value: Any, ending: Ending) -> None:
    assert ending_of(value, start=1, asked=False) == ending


def test_job_that_is_started_again_and_again_pauses_in_between() -> None:
    """At the front of `wait` it would keep its slot from all others for ever."""
    assert ending_of(Requeue(), start=LATE - 1, asked=False) == Requeued(reason=Requeue().reason)
    assert ending_of(Requeue(), start=LATE, asked=False) == Delayed(delay_ms=PAUSE_MS, reason=Requeue().reason)
    early, late = (ending_of(WaitForChildren(), start=start, asked=False) for start in (LATE - 1, LATE))
    assert isinstance(early, AwaitingChildren) and early.delay_ms == 0
    assert isinstance(late, AwaitingChildren) and late.delay_ms == PAUSE_MS


@pytest.mark.parametrize("kind", [Snooze, RateLimit])
@pytest.mark.parametrize("delay", [math.nan, math.inf, "3", None, 10**400, True])
def test_no_number_of_seconds_is_named(kind: Any, delay: Any) -> None:
    said = ending_of(kind(delay_s=delay, reason="r"), start=1, asked=False)
    assert isinstance(said, str)
    assert said.startswith(f"{kind.__name__}(delay_s=") and len(said) < 100


def test_hand_back_is_for_those_who_were_asked() -> None:
    assert ending_of(HandBack(reason="drain"), start=1, asked=True) == HandedBack(reason="drain")
    said = ending_of(HandBack(reason="bored"), start=1, asked=False)
    assert isinstance(said, str) and "nobody had asked" in said


@pytest.mark.parametrize("value", EVERY, ids=lambda value: type(value).__name__)
def test_reasons_are_text_that_redis_holds(value: Any) -> None:
    object.__setattr__(value, "reason", "\ud800" + "x" * 10**6)
    ending = ending_of(value, start=1, asked=True)
    reason: str = ending.reason  # type: ignore[union-attr]
    assert len(reason) == MAX_REASON
    reason.encode()


def test_every_outcome_of_the_contract_is_understood() -> None:
    assert {type(value) for value in EVERY} | {TimeUp} == set(get_args(Outcome))
    assert not [v for v in EVERY if isinstance(ending_of(v, start=1, asked=True), Completed)]

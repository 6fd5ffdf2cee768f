"""Outcomes, requests, failures and errors as JSON and back; what a child may have forged is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.numbers import is_number
from workers.contract import (
    BudgetError,
    Cancel,
    CrashedError,
    HandBack,
    Outcome,
    Park,
    PermanentError,
    RateLimited,
    RateLimitError,
    Requeue,
    Snooze,
    StopRequest,
    TimeUp,
    TransientError,
    UnavailableError,
    UserError,
    Verdict,
    WaitForChildren,
)
from workers.runtime.error_stack import MAX_STACK
from workers.runtime.isolation import wire
from workers.runtime.isolation.frames import FrameError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
REASONS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
SECONDS = st.floats(allow_nan=False) | st.integers(-(10**6), 10**9)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Snooze, SECONDS, REASONS),
    st.builds(Park, REASONS, SECONDS),
    st.builds(Cancel, REASONS),
    st.builds(RateLimited, SECONDS, REASONS),
    st.builds(WaitForChildren, REASONS),
    st.builds(Requeue, REASONS),
    st.builds(HandBack, REASONS),
    st.builds(TimeUp, REASONS),
)


def crossed(value: Any) -> Any:
    return json.loads(json.dumps(value))


# ---------------------------------------------------------------------- outcomes


@given(OUTCOMES)
def test_outcome_survives(outcome: Outcome) -> None:
    assert wire.outcome_of(crossed(wire.outcome_fields(outcome))) == outcome


@pytest.mark.parametrize("value", [None, 0, "Snooze", {"name": "Snooze", "delay_s": 1, "reason": ""}, Snooze, object()])
def test_result_is_no_outcome(value: Any) -> None:
    assert wire.outcome_fields(value) is None


def test_outcome_of_a_subclass_arrives_as_what_it_is_one_of() -> None:
    class Later(Snooze):
        pass

    assert wire.outcome_of(crossed(wire.outcome_fields(Later(3, "x")))) == Snooze(3, "x")


@pytest.mark.parametrize("delay", ["soon", [1], {}, object(), 10**400])
def test_delay_that_is_no_number_of_seconds_arrives_as_none(delay: Any) -> None:
    outcome = wire.outcome_of(crossed(wire.outcome_fields(Snooze(delay, "x"))))
    assert isinstance(outcome, Snooze)
    assert not is_number(outcome.delay_s)


def test_reason_of_an_outcome_is_bounded() -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError

    long = wire.outcome_of(crossed(wire.outcome_fields(Cancel("x" * 100_000))))
    odd = wire.outcome_of(crossed(wire.outcome_fields(Cancel(Unspeakable()))))  # type: ignore[arg-type]
    assert isinstance(long, Cancel)
    assert len(long.reason) == wire.MAX_REASON
    assert odd == Cancel("Unspeakable")


@given(JSON)
def test_forged_outcome_is_refused_or_is_one(value: Any) -> None:
    with contextlib.suppress(FrameError):
        assert type(wire.outcome_of(value)).__name__ in ("WaitForChildren", "Requeue")


@pytest.mark.parametrize(
    "fields",
    [{"name": "Snooze"}, {"name": "Cancel", "reason": "x", "more": 1}, {"name": "Verdict"}, {"name": None}, [], None],
)
def test_what_is_no_outcome_is_refused(fields: Any) -> None:
    with pytest.raises(FrameError):
        wire.outcome_of(fields)


# ---------------------------------------------------------------------- requests


def test_request_survives_and_its_time_is_what_is_left() -> None:
    request = StopRequest(kind="pause", reason="r", by=time.monotonic() + 7)
    found = wire.stop_of(crossed(wire.stop_fields(request)))
    assert found is not None
    assert (found.kind, found.reason) == ("pause", "r")
    assert found.by == pytest.approx(request.by, abs=0.5)
    assert wire.stop_of(crossed(wire.stop_fields(None))) is None


# ---------------------------------------------------------------------- failures


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@given(
    retry=st.booleans(),
    after=st.none() | st.floats(0, 10**6),
    failure=st.sampled_from([None, "transient", "permanent", "user", "crashed"]),
)
def test_failure_survives_with_its_verdict(retry: bool, after: float | None, failure: Any) -> None:
    verdict = Verdict(retry=retry, retry_after_s=after, failure=failure)
    found = wire.failure_of(crossed(wire.failure_fields(raised(KeyError("k")), verdict)))
    assert (found.name, str(found), found.verdict) == ("KeyError", "'k'", verdict)
    assert "in raised" in found.stack
    assert found.stack.endswith("KeyError: 'k'\n")


def test_failure_is_bounded_whatever_its_exception_does() -> None:
    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    HostileError.__name__ = "N" * 1000
    fields = crossed(wire.failure_fields(HostileError(), Verdict()))
    found = wire.failure_of(fields)
    assert len(found.name) == wire.MAX_NAME
    assert len(str(found)) <= wire.MAX_REASON
    long = wire.failure_of(crossed(wire.failure_fields(raised(ValueError("é\ud800" * 100_000)), Verdict())))
    assert len(str(long)) == wire.MAX_REASON
    assert len(long.stack) == MAX_STACK
    str(long).encode()


@given(JSON)
def test_forged_failure_is_refused(value: Any) -> None:
    with pytest.raises(FrameError):
        wire.failure_of(value)


def test_forged_verdict_is_read_as_what_it_can_be() -> None:
    fields = {"name": "E", "reason": "r", "stack": "", "verdict": {"retry": 1, "retry_after_s": "x", "failure": "odd"}}
    assert wire.failure_of(fields).verdict == Verdict(retry=False)


# ------------------------------------------------------------- errors of calls


@pytest.mark.parametrize(
    "error",
    [
        TransientError("t", retry_after_s=2.5),
        TransientError("t"),
        RateLimitError("r", retry_after_s=1.0),
        CrashedError("c"),
        PermanentError("p"),
        BudgetError("b"),
        UserError("u"),
        UnavailableError("a"),
        ValueError("v"),
        TypeError("y"),
    ],
)
def test_error_of_a_call_survives(error: Exception) -> None:
    found = wire.error_of(crossed(wire.error_fields(error)))
    assert (type(found), str(found)) == (type(error), str(error))
    assert getattr(found, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_error_of_a_call_that_a_child_does_not_know_may_be_another_time() -> None:
    found = wire.error_of(crossed(wire.error_fields(OSError("gone"))))
    assert (type(found), str(found)) == (TransientError, "OSError: gone")


def test_error_of_a_call_arrives_as_the_nearest_that_a_child_knows() -> None:
    class QueueFullError(RateLimitError):
        pass

    found = wire.error_of(crossed(wire.error_fields(QueueFullError("full", retry_after_s=3))))
    assert isinstance(found, RateLimitError)
    assert (str(found), found.retry_after_s) == ("full", 3)
    assert isinstance(wire.error_of(crossed(wire.error_fields(UnicodeError("u")))), ValueError)


def test_cancellation_is_no_error_of_a_call() -> None:
    assert not issubclass(asyncio.CancelledError, Exception)

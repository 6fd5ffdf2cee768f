"""What kind of failure an exception is, and whether a retry can help: tables over all that may be raised."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasks.codec import DecodeError, UnknownTaskType
from tasks.problem import Problem
from workers.contract import (
    BudgetError,
    CrashedError,
    FailureClass,
    JobError,
    PermanentError,
    RateLimitError,
    TransientError,
    UnavailableError,
    UserError,
    Verdict,
)
from workers.runtime.containment import EscapedError
from workers.runtime.isolation.call import RemoteError
from workers.runtime.retry import MAX_EXCEPTIONS, verdict_of


class OwnJobError(JobError):
    """A module's."""


class RefusedByBankError(UserError):
    """A module's that inherits its kind."""


class Unfinished(TransientError):
    """A module's that forgets its base."""

    def __init__(self) -> None:
        pass


class Odd(TransientError):
    """A module's that claims what no retry can help."""

    failure = "budget"


class Misspelt(PermanentError):
    failure = "fatal"  # type: ignore[assignment]


def again(failure: FailureClass = "transient", after_s: Any = None) -> Verdict:
    return Verdict(retry=True, retry_after_s=after_s, failure=failure)


def never(failure: FailureClass = "permanent", after_s: Any = None) -> Verdict:
    return Verdict(retry=False, retry_after_s=after_s, failure=failure)


def silent(error: Exception) -> Verdict:
    return Verdict()


def of_the_module(error: Exception) -> Verdict:
    raise AssertionError("must not be asked")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (JobError("no"), again()),
        (OwnJobError("no"), again()),
        (TransientError("wait"), again()),
        (TransientError("wait", retry_after_s=9), again(after_s=9)),
        (Unfinished(), again()),
        (RateLimitError("429", retry_after_s=30), again("rate-limited", 30)),
        (CrashedError("SIGKILL"), again("crashed")),
        (PermanentError("no"), never()),
        (UnavailableError("no ledger"), never()),
        (BudgetError("no credits"), never("budget")),
        (UserError("no such file"), never("user")),
        (RefusedByBankError("no"), never("user")),
        (Odd("no"), never("budget")),
        (Misspelt("no"), again()),
        (RemoteError("KeyError", "k", "", Verdict()), again()),
        (RemoteError("KeyError", "k", "", Verdict(retry=False)), never()),
        (RemoteError("MemoryError", "", "", again("crashed")), again("crashed")),
        (RemoteError("UserError", "no", "", never("user")), never("user")),
        (RemoteError("Slow", "no", "", again("rate-limited", 5)), again("rate-limited", 5)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_job_errors_and_other_processes_speak_for_themselves(error: Exception, verdict: Verdict) -> None:
    assert verdict_of(error, of_the_module) == verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (Verdict(retry=False), never()),
        (Verdict(retry=False, failure="transient"), Verdict(retry=False, failure="transient")),
        (Verdict(retry=False, failure="timed-out"), Verdict(retry=False, failure="timed-out")),
        (Verdict(retry_after_s=3), again(after_s=3)),
        (Verdict(failure="rate-limited", retry_after_s=3), again("rate-limited", 3)),
        (Verdict(failure="crashed"), again("crashed")),
        (Verdict(failure="timed-out"), again("timed-out")),
        (Verdict(failure="permanent"), never()),
        (Verdict(failure="budget", retry_after_s=3), never("budget", 3)),
        (Verdict(failure="user"), never("user")),
        (Verdict(failure="gone"), again()),  # type: ignore[arg-type]
        (Verdict(failure=[]), again()),  # type: ignore[arg-type]
        (Verdict(retry=None, failure="gone"), never()),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("error", [ValueError("v"), MemoryError(), ExceptionGroup("g", [PermanentError("no")])])
def test_what_the_module_says_holds_except_that_a_final_kind_is_final(
    error: Exception, said: Verdict, verdict: Verdict
) -> None:
    assert verdict_of(error, lambda error: said) == verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OSError(28, "No space left on device"), again()),
        (FileNotFoundError("f"), again()),
        (ConnectionResetError(), again()),
        (TimeoutError(), again()),
        (TypeError(), again()),
        (KeyError("k"), again()),
        (AttributeError(), again()),
        (AssertionError(), again()),
        (RecursionError(), again()),
        (NotImplementedError(), again()),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "r"), again()),
        (MemoryError(), again("crashed")),
        (EscapedError(SystemExit(1)), again("crashed")),
        (EscapedError(asyncio.CancelledError()), again("crashed")),
        (DecodeError([Problem("data.to", "a list", "nothing")]), never()),
        (UnknownTaskType("teleport"), never()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_which_nobody_says_anything_are_known_by_their_class(error: Exception, verdict: Verdict) -> None:
    assert verdict_of(error) == verdict
    assert verdict_of(ExceptionGroup("g", [error]), silent) == verdict


def test_group_means_what_the_gravest_of_its_errors_does() -> None:
    slow, busy = RateLimitError("429", retry_after_s=30), TransientError("busy", retry_after_s=60)
    assert verdict_of(ExceptionGroup("g", [ValueError(), busy])) == again(after_s=60)
    assert verdict_of(ExceptionGroup("g", [busy, slow, ValueError()])) == again("rate-limited", 60)
    assert verdict_of(ExceptionGroup("g", [slow, ExceptionGroup("h", [UserError("no")])])) == never("user", 30)
    assert verdict_of(ExceptionGroup("g", [PermanentError("a"), UserError("b")])) == never()


def test_module_is_asked_about_a_group_then_about_what_is_in_it() -> None:
    asked: list[type] = []

    def classify(error: Exception) -> Verdict:
        asked.append(type(error))
        return Verdict(failure="user") if isinstance(error, KeyError) else Verdict()

    assert verdict_of(ExceptionGroup("g", [ValueError(), KeyError()]), classify) == never("user")
    assert asked == [ExceptionGroup, ValueError, KeyError]


def test_group_of_any_size_and_depth_is_looked_at_in_bounds() -> None:
    deep: Exception = UserError("no")
    for _ in range(5000):
        deep = ExceptionGroup("g", [deep])
    assert verdict_of(deep) == never("user")
    asked: list[Exception] = []

    def classify(error: Exception) -> Verdict:
        asked.append(error)
        return Verdict()

    verdict_of(ExceptionGroup("g", [ValueError()] * 100_000), classify)
    assert len(asked) == 1 + MAX_EXCEPTIONS

"""What a failure is called, and whether another attempt can help, is told by its class."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from workers import contract
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
    errors,
)

ERRORS = [kind for kind in vars(contract).values() if inspect.isclass(kind) and issubclass(kind, Exception)]


@pytest.mark.parametrize(
    ("kind", "failure", "may_be_retried"),
    [
        (JobError, "transient", True),
        (TransientError, "transient", True),
        (RateLimitError, "rate-limited", True),
        (CrashedError, "crashed", True),
        (PermanentError, "permanent", False),
        (BudgetError, "budget", False),
        (UserError, "user", False),
        (UnavailableError, "permanent", False),
    ],
)
def test_class_tells_kind_and_chance(kind: type[JobError], failure: FailureClass, may_be_retried: bool) -> None:
    assert kind.failure == failure
    assert issubclass(kind, PermanentError) is not may_be_retried


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_known_class_and_says_what_it_is_given(kind: type[JobError]) -> None:
    assert issubclass(kind, JobError)
    assert kind.failure in get_args(FailureClass)
    assert str(kind("what went wrong")) == "what went wrong"
    assert kind.__doc__


def test_time_before_which_a_retry_is_pointless_is_optional() -> None:
    assert TransientError("x").retry_after_s is None
    assert RateLimitError("x", retry_after_s=5.0).retry_after_s == 5.0
    with pytest.raises(TypeError):
        TransientError("x", 5.0)  # type: ignore[call-arg]


def test_tree_is_drawn_where_the_errors_are() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in ERRORS if kind is not UnavailableError)

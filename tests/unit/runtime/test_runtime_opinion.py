"""A module that is asked what an exception means: whatever it does, there is an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workers.contract import TransientError, UserError, Verdict
from workers.runtime.isolation.call import RemoteError
from workers.runtime.opinion import classified


def test_module_is_not_asked_about_what_speaks_for_itself() -> None:
    def classify(error: Exception) -> Verdict:
        raise AssertionError

    for error in (TransientError("t"), UserError("u"), RemoteError("E", "r", "", Verdict())):
        assert classified(error, classify).failure in ("transient", "user")


@pytest.mark.parametrize("raised", [ZeroDivisionError(), SystemExit(), asyncio.CancelledError(), GeneratorExit()])
def test_classification_that_breaks_has_said_nothing(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def classify(error: Exception) -> Verdict:
        raise raised

    assert classified(MemoryError(), classify) == Verdict(failure="crashed")
    assert [record.message for record in caplog.records] == [
        "a module's classify failed; the failure counts as one that it does not know"
    ]


def test_classification_that_is_none_has_said_nothing(caplog: pytest.LogCaptureFixture) -> None:
    nothing: Any = lambda error: "never"  # noqa: E731
    assert classified(ValueError(), nothing) == Verdict(failure="transient")
    assert "returned str, no Verdict" in caplog.text

"""A number or an object, and nothing that Redis, Node or a dashboard would stumble over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.progress import MAX_PROGRESS, check


@pytest.mark.parametrize(
    "value",
    [
        0,
        40,
        99.5,
        -1,
        {},
        {"status": "running", "progress": 0.4, "currentStep": "fetch"},
        {"status": None, "progress": None, "currentStep": None},
        {"percent": 50, "parts": [1, {"deep": True}]},
        {"text": "x" * (MAX_PROGRESS - 20)},
    ],
)
def test_number_or_object_is_progress(value: Any) -> None:
    check(value)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (True, TypeError, "expected a number or an object like .*, found bool"),
        ("40 %", TypeError, "found str"),
        (None, TypeError, "found NoneType"),
        ([40], TypeError, "found list"),
        (b"raw", TypeError, "found bytes"),
        (float("nan"), ValueError, "a finite number"),
        (float("inf"), ValueError, "a finite number"),
        pytest.param(10**400, ValueError, "a finite number", id="huge"),
        ({"status": 3}, TypeError, r"progress\.status: expected a text, found int"),
        ({"currentStep": ["a"]}, TypeError, r"progress\.currentStep: expected a text, found list"),
        ({"progress": "40"}, TypeError, r"progress\.progress: expected a finite number, found str"),
        ({"progress": True}, TypeError, r"progress\.progress: expected a finite number"),
        ({"progress": float("nan")}, TypeError, r"progress\.progress"),
        ({"x": float("nan")}, ValueError, "not JSON compliant"),
        ({"x": {1}}, TypeError, "not JSON serializable"),
        ({1: "x"}, TypeError, "texts as keys"),
        ({"text": "x" * MAX_PROGRESS}, ValueError, r"65,5\d\d bytes, more than the 65,536 that are stored"),
    ],
)
def test_anything_else_is_the_processors_error(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(value)


def test_depth_is_the_processors_error() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(ValueError, match="nested too deeply"):
        check(deep)


@given(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_progress(value: float) -> None:
    check(value)

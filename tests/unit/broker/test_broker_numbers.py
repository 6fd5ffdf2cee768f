"""Numbers as producers write them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.numbers import MAX_SAFE, is_number, whole


@pytest.mark.parametrize("value", [0, -1, 2.5, 2**63, 10**308, -0.0])
def test_finite_numbers_are_numbers(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [None, True, False, "1", math.nan, math.inf, -math.inf, 10**309, [1], {"n": 1}])
def test_everything_else_is_none(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize(("value", "kept"), [(3, 3), (2.1, 3), (-4, 0), (1e300, MAX_SAFE), (10**308, MAX_SAFE)])
def test_whole_number_is_rounded_up_within_its_bounds(value: float, kept: int) -> None:
    assert whole(value) == kept


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.integers(-99, 99), st.integers(100, 999))
def test_whole_number_is_always_within_its_bounds(value: float, low: int, high: int) -> None:
    kept = whole(value, low=low, high=high)
    assert isinstance(kept, int)
    assert low <= kept <= high

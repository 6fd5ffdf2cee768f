"""What a job says of its own time, and the many ways to say nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.hint import MIN_S, NO_HINT, Hint, hint_of

NONE: list[Any] = [None, True, "600000", "", 0, -1, -0.5, math.nan, math.inf, -math.inf, 10**400, [600000], {"ms": 1}]


@pytest.mark.parametrize(
    ("data", "opts", "hint"),
    [
        ({}, {}, NO_HINT),
        ({"timeout": 90_000}, {}, Hint(own_s=90)),
        ({"options": {"timeout": 60_000}}, {}, Hint(own_s=60)),
        ({"timeout": 90_000, "options": {"timeout": 60_000}}, {}, Hint(own_s=90)),
        ({}, {"timeout": 600_000}, Hint(at_least_s=600)),
        ({"timeout": 90_000}, {"timeout": 600_000}, Hint(own_s=90, at_least_s=600)),
        ({"timeout": 1.5}, {}, Hint(own_s=0.0015)),
        ({"timeout": 1e-9}, {}, Hint(own_s=MIN_S)),
        ({"timeout": 1e300}, {"timeout": 2**70}, Hint(own_s=1e297, at_least_s=2**70 / 1000)),
    ],
)
def test_hint_is_read_from_task_and_options(data: Any, opts: Any, hint: Hint) -> None:
    assert hint_of(data, opts) == hint


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_what_is_no_time_says_nothing(value: Any) -> None:
    assert hint_of({"timeout": value, "options": {"timeout": value}}, {"timeout": value}) == NO_HINT
    assert hint_of({"timeout": value, "options": {"timeout": 5}}, {}) == Hint(own_s=0.005)
    assert hint_of({"options": value}, {}) == NO_HINT


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(10**400)


@given(anything, anything | st.dictionaries(st.just("timeout"), anything), anything)
def test_any_hint_is_a_finite_time(own: Any, options: Any, producer: Any) -> None:
    hint = hint_of({"timeout": own, "options": options}, {"timeout": producer})
    for said in (hint.own_s, hint.at_least_s):
        assert said is None or (math.isfinite(said) and said >= MIN_S)

"""Keep rules: the job's own in all of BullMQ's forms, else the queue's, and never one that breaks the script."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.keep import MAX_RULE, keep_jobs

DEFAULT = {"age": 86_400, "count": 5000}


@pytest.mark.parametrize(
    ("own", "rule"),
    [
        (True, {"count": 0}),
        (False, {"count": -1}),
        (0, {"count": 0}),
        (100, {"count": 100}),
        (-1, {"count": -1}),
        (-7, {"count": -1}),
        (2.5, {"count": 3}),
        (1e300, {"count": MAX_RULE}),
        ({"age": 60}, {"age": 60}),
        ({"count": 5}, {"count": 5}),
        ({"count": 0}, {"count": 0}),
        ({"age": 60, "count": 5, "limit": 10}, {"age": 60, "count": 5, "limit": 10}),
        ({"age": 59.5, "count": 4.5, "limit": 9.5}, {"age": 60, "count": 5, "limit": 10}),
        ({"age": 60, "count": "many"}, {"age": 60}),
        ({"age": 10**30}, {"age": MAX_RULE}),
        ({"age": -1, "count": 3}, {"count": 3}),
        ({"count": 3, "limit": 0}, {"count": 3}),
        ({"age": -1}, DEFAULT),
        ({"age": None, "count": True}, DEFAULT),
        ({"count": 10**400}, DEFAULT),
        ({}, DEFAULT),
        (None, DEFAULT),
        ("true", DEFAULT),
        ([1], DEFAULT),
        (math.nan, DEFAULT),
        (10**400, DEFAULT),
    ],
)
def test_own_rule_wins_where_it_makes_sense(own: Any, rule: dict[str, int]) -> None:
    assert keep_jobs(own, DEFAULT) == rule


@pytest.mark.parametrize(("default", "rule"), [(True, {"count": 0}), (False, {"count": -1}), (9, {"count": 9})])
def test_rule_of_the_queue_has_the_same_forms(default: Any, rule: dict[str, int]) -> None:
    assert keep_jobs(None, default) == rule


def test_without_any_rule_all_are_kept() -> None:
    assert keep_jobs("nonsense", {"age": "nonsense"}) == {"count": -1}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(10**400)
rules = scalars | st.dictionaries(st.sampled_from(["age", "count", "limit", "x"]), scalars) | st.lists(scalars)


@given(rules, rules)
def test_any_rule_becomes_one_that_the_script_takes(own: Any, default: Any) -> None:
    rule = keep_jobs(own, default)
    assert rule and set(rule) <= {"age", "count", "limit"}
    assert all(type(value) is int and -1 <= value <= MAX_RULE for value in rule.values())
    assert rule.get("age", 0) >= 0 and rule.get("limit", 1) >= 1
    msgpack.packb(rule)

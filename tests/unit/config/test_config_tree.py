from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import ConfigError, ConfigIssue, dotted
from config.tree import Node, Origin, find, merge, nearest, plain, put

BASE, OVER = Origin("file", "base.yaml", 1, 1), Origin("file", "over.yaml", 1, 1)

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abcd"), below, max_size=3),
    max_leaves=12,
)


def tree(value: Any, origin: Origin = BASE) -> Node:
    if isinstance(value, dict):
        return Node({key: tree(below, origin) for key, below in value.items()}, origin)
    if isinstance(value, list):
        return Node([tree(below, origin) for below in value], origin)
    return Node(value, origin)


def merged(base: Any, over: Any) -> Any:
    return plain(merge(tree(base), tree(over, OVER)))


@pytest.mark.parametrize(
    ("base", "over", "result"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": [1]}, {"a": [1]}),
        ({"a": [1]}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"retry": "never"}, {"retry": {"attempts": 2}}, {"retry": {"attempts": 2}}),
        (
            {"scale": {"policy": "queue-depth", "min": 1}},
            {"scale": {"policy": "fixed"}},
            {"scale": {"policy": "fixed"}},
        ),
        (
            {"scale": {"policy": "queue-depth", "min": 1}},
            {"scale": {"min": 2}},
            {"scale": {"policy": "queue-depth", "min": 2}},
        ),
    ],
)
def test_mappings_merge_and_all_else_is_replaced(base: Any, over: Any, result: Any) -> None:
    assert merged(base, over) == result


@given(VALUES, VALUES)
def test_merging_keeps_every_value_of_the_overlay(base: Any, over: Any) -> None:
    result = merged(base, over)
    if not isinstance(over, dict) or not isinstance(base, dict):
        assert result == over
    else:
        assert set(result) == set(base) | set(over)
        for key, value in over.items():
            assert result[key] == (merged(base[key], value) if key in base else value)


@given(VALUES)
def test_merging_a_tree_with_itself_changes_nothing(value: Any) -> None:
    assert merged(value, value) == value


def test_merged_values_remember_their_files() -> None:
    result = merge(tree({"a": {"x": 1, "y": 1}}), tree({"a": {"y": 2}}, OVER))
    assert nearest(result, ("a", "x")).origin == BASE
    assert nearest(result, ("a", "y")).origin == OVER
    assert nearest(result, ("a", "missing", "deeper")).origin == BASE


def test_putting_makes_the_mappings_on_the_way() -> None:
    result = put(tree({"a": 1}), ("b", "c"), Node(2, OVER))
    assert plain(result) == {"a": 1, "b": {"c": 2}}
    assert find(result, ("b", "c")) == Node(2, OVER)
    assert find(result, ("b", "d")) is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("queues", "email-send", "concurrency"), "queues.email-send.concurrency"),
        (("retry", "over_job", 0), "retry.over_job[0]"),
        (("a.b", "c d"), "'a.b'.'c d'"),
        (("\x1b[31m",), r"'\x1b[31m'"),
        ((), ""),
    ],
)
def test_paths_are_written_with_dots_and_odd_keys_in_quotes(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


def test_error_is_one_line_for_each_issue() -> None:
    placed = ConfigIssue(source="fleet.yaml", line=12, column=5, path="a.b", message="expected an integer")
    whole = ConfigIssue(source="fleet.yaml", message="can't read it")
    assert str(ConfigError([placed, whole])) == "fleet.yaml:12:5: a.b: expected an integer\nfleet.yaml: can't read it"
    assert ConfigError([placed, whole]).issues == (placed, whole)


def test_issue_stays_on_one_line() -> None:
    issue = ConfigIssue(source="a\nb", path="c", message="two\nlines \x1b[31m")
    assert str(issue) == r"a\nb: c: two\nlines \x1b[31m"

"""How deep and how large data may be is a setting; what is beyond it is named without being walked twice."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.codec import DecodeError, decode
from tasks.limits import Limits
from tests.unit.tasks.wire_data import EXAMPLES


def lists(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "levels"),
    [({}, 1), ({"a": 1}, 1), ({"a": []}, 2), ({"a": {}}, 2), ({"a": {"b": [1]}}, 3), ({"a": lists(7)}, 8)],
)
def test_depth_is_counted_in_objects_and_lists(data: dict[str, Any], levels: int) -> None:
    assert Limits(max_depth=levels).exceeded(data) is None
    problem = Limits(max_depth=levels - 1).exceeded(data)
    assert problem is not None
    assert problem.expected == f"at most {levels - 1} levels"


def test_way_down_is_named_and_cut() -> None:
    problem = Limits(max_depth=2).exceeded({"x": 1, "wide": [0, {"deep": 1}], "flat": {}})
    assert str(problem) == "data.wide.1: expected at most 2 levels, found more"
    problem = Limits(max_depth=50).exceeded({"k" * 1000: lists(60)})
    assert problem is not None
    assert len(problem.path) < 100


@pytest.mark.parametrize(
    ("data", "chars"), [({}, 0), ({"ab": 1}, 2), ({"a": "xyz"}, 4), ({"a": ["xy", {"b": "z"}], "c": None}, 6)]
)
def test_characters_of_names_and_values_are_counted(data: dict[str, Any], chars: int) -> None:
    assert Limits(max_chars=chars).exceeded(data) is None
    if chars:
        problem = Limits(max_chars=chars - 1).exceeded(data)
        assert str(problem) == f"data: expected at most {chars - 1} characters in all, found more"


def test_no_bound_on_characters_unless_one_is_set() -> None:
    data = EXAMPLES[0]["data"] | {"extra": "x" * 10_000_000}
    assert decode(data)
    with pytest.raises(DecodeError, match=r"^data: expected at most 1,000,000 characters in all, found more$"):
        decode(data, limits=Limits(max_chars=1_000_000))


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_nodes_jobs_are_far_from_the_default_bounds(job: dict[str, Any]) -> None:
    assert Limits(max_depth=20, max_chars=5000).exceeded(job["data"]) is None


def test_bounds_come_before_the_fields_and_after_the_type() -> None:
    with pytest.raises(DecodeError, match="levels"):
        decode({"type": "email-send", "to": lists(200)})
    with pytest.raises(DecodeError, match=r"data\.type"):
        decode({"type": 7, "to": lists(200)})

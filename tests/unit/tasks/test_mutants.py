"""Every example, wrong at every place: refused where it is wrong, or understood as what it says."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks import TASKS
from tasks.base import Task
from tasks.codec import DecodeError, TooNewError, decode, encode
from tasks.vintage import EvolvedTask, OlderShape
from tests.unit.tasks.older_leaves import unsaid
from tests.unit.tasks.wire_data import EXAMPLES, holder_of, json_values, names, places, same

#: A value of each kind, and of those that are nearly right.
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 2**53, 10**400, 1.5, -0.0, math.nan, math.inf, "", "7", "\ud800", "x" * 100_000),
    *([], [None], [7], ["7"], {}, {"__proto__": {"admin": True}}, {"id": 7}, [[[]]]),
)
BEFORE = copy.deepcopy([*WRONG])
#: Where another value means another model, whose fields are then missed or wrong.
TAGS = frozenset({"type", "__type"})
#: What tells shapes apart, and what is missed when there is none of it.
MARKS = {("input",), ("swarmId",), ("config",), ("runId",)}
NEWEST = ("context", "input", "allocation")
each_example = pytest.mark.parametrize("index", range(len(EXAMPLES)), ids=lambda i: f"{i}-{EXAMPLES[i]['queue']}")


def check(mutant: dict[str, Any], place: tuple[Any, ...]) -> None:
    """Decode what has been changed at this place alone."""
    try:
        task = decode(mutant)
    except TooNewError:
        assert place in (("type",), ("schemaVersion",))
    except DecodeError as error:
        told = str(error)
        assert len(told) < 1200
        assert told.isprintable()
        for problem in error.problems:
            assert concerns(problem.path, place), f"changed at {place}, but {problem}"
    else:
        assert_says(task, mutant)


def assert_says(task: Task, data: dict[str, Any]) -> None:
    """The task means what these data say: they come back, and an older shape's don't only because it has kept them."""
    assert same(encode(task), data)
    if isinstance(task, EvolvedTask):
        newest = encode(task.renewed())
        assert decode(newest) == task
        if isinstance(task.as_written(), OlderShape):
            assert unsaid(data, newest) == []
        else:
            assert same(newest, data)


def concerns(path: str, place: tuple[Any, ...]) -> bool:
    """Whether a problem's path is the place, or one within it; or where a tag is that has picked another model."""
    where = ".".join(["data", *map(str, place[:-1] if place[-1] in TAGS else place)])
    if place in MARKS and path.removeprefix("data.").startswith(NEWEST):
        return True
    return path == where or path.startswith(f"{where}.")


@each_example
def test_any_value_at_any_place(index: int) -> None:
    data = copy.deepcopy(EXAMPLES[index]["data"])
    for place in [*places(data)]:
        holder = holder_of(data, place)
        kept = holder[place[-1]]
        for value in WRONG:
            holder[place[-1]] = value
            check(data, place)
        holder[place[-1]] = kept
    assert data == EXAMPLES[index]["data"], "what was decoded has been changed"
    assert same([*WRONG], BEFORE)


@each_example
def test_any_field_missing(index: int) -> None:
    data = EXAMPLES[index]["data"]
    for place in places(data):
        mutant = copy.deepcopy(data)
        del holder_of(mutant, place)[place[-1]]
        # A list of recipients that loses its only one is too short itself.
        check(mutant, place[:-1] if isinstance(place[-1], int) else place)


@each_example
def test_any_object_with_names_that_mean_something_elsewhere(index: int) -> None:
    hostile = {"__proto__": {"x": 1}, "constructor": 1, "__class__": [], "model_fields": 7, "": None, "user_id": "u"}
    hostile |= {"\ud800": 1, "\0stand-in 0": 2, "context": 3, "options": 4, "chatId": "c"}
    data = EXAMPLES[index]["data"]
    objects = [(), *(place for place in places(data) if isinstance(holder_of(data, (*place, "")), dict))]
    for place in objects:
        mutant = copy.deepcopy(data)
        holder = holder_of(mutant, (*place, ""))
        holder |= {name: value for name, value in hostile.items() if not _declares(mutant, place, name)}
        assert_says(decode(mutant), mutant)


def test_any_two_examples_mixed() -> None:
    for left in EXAMPLES:
        for right in EXAMPLES:
            mutant = left["data"] | {key: value for key, value in right["data"].items() if key != "type"}
            try:
                task = decode(mutant)
            except DecodeError as error:
                assert all(each.path.split(".")[1] in _may_be_missed(mutant) for each in error.problems)
            else:
                assert_says(task, mutant)


def _declares(data: dict[str, Any], place: tuple[Any, ...], name: str) -> bool:
    """Whether the field is one that means something there in some shape of these data."""
    newest = TASKS[data["type"]].shape_of(data) is TASKS[data["type"]]
    return name in holder_of(data, (*place, "")) or (newest and name in ("context", "options", "chatId"))


def _may_be_missed(data: dict[str, Any]) -> set[str]:
    """What is there, and what a shape chosen by it misses."""
    return {*data, "config", "goal", "allocation", "to", "context", "input"}


@settings(deadline=None, max_examples=60, phases=(Phase.explicit, Phase.generate, Phase.shrink), database=None)
@given(st.data())
def test_any_changes_at_several_places(data: st.DataObject) -> None:
    mutant = copy.deepcopy(data.draw(st.sampled_from(EXAMPLES))["data"])
    changed: set[str] = set()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from([*places(mutant)]))
        changed.add(str(place[0]))
        holder, value = holder_of(mutant, place), data.draw(json_values)
        match data.draw(st.sampled_from(["change", "remove", "add"])):
            case "change":
                holder[place[-1]] = value
            case "remove" if len(mutant) > 1 or len(place) > 1:
                del holder[place[-1]]
            case _ if isinstance(holder, dict):
                holder[name := data.draw(names)] = value
                changed.add(name if holder is mutant else str(place[0]))
        if not mutant or not [*places(mutant)]:
            break
    before = copy.deepcopy(mutant)
    try:
        task = decode(mutant)
    except TooNewError:
        assert changed & {"type", "schemaVersion"}
    except DecodeError as error:
        tops = {each.path.split(".")[1].strip('"') for each in error.problems}
        assert tops <= changed or changed & {"type", "swarmId", "config", "input", "context", "runId"}
    else:
        assert_says(task, before)

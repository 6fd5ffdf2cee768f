"""Any schema, changed anyhow: what `changes` says holds, and what it can't read is refused."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tasks import TASKS
from tests.unit.tasks.wire_data import EXAMPLES
from workers.wire_schema.change import Change, Effect, changes
from workers.wire_schema.forms import NotComparable
from workers.wire_schema.json_schema import wire_schema

BREAKS = frozenset({Effect.PRODUCERS, Effect.WAITING})


def places(value: Any) -> list[Any]:
    found, todo = [], [value]
    while todo:
        at = todo.pop()
        if isinstance(at, dict | list):
            found.append(at)
            todo.extend(at.values() if isinstance(at, dict) else at)
    return found


SMALL = wire_schema({"run-start": TASKS["run-start"]})


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, len(places(SMALL)) - 1),
    st.integers(0, 50),
    st.sampled_from([None, True, False, 0, -1.5, "", "x", [], [1], [[]], {}, {"type": 1}, {"$ref": 1}, {"enum": [{}]}]),
)
def test_any_damage_is_told_or_refused(place: int, at: int, value: Any) -> None:
    new = copy.deepcopy(SMALL)
    holder = places(new)[place]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return
    holder[keys[at % len(keys)]] = value
    for pair in ((SMALL, new), (new, SMALL)):
        try:
            told = changes(*pair)
        except NotComparable:
            continue
        assert all(isinstance(each, Change) and str(each) and each.as_json() for each in told)


JOBS = [job["data"] for job in EXAMPLES if job["data"]["type"] in ("run-start", "import-user-data")]
TWO = wire_schema({name: TASKS[name] for name in ("run-start", "import-user-data")})


def parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every schema in the definitions."""
    found, todo = [], list(schema["$defs"].values())
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            found.append(at)
            todo += at.get("properties", {}).values()
            todo += [each for key in ("anyOf", "oneOf", "allOf") for each in at.get(key, [])]
            todo += [at[key] for key in ("items", "additionalProperties") if key in at]
    return found


def edited(schema: dict[str, Any], chance: random.Random) -> None:
    """Any one change that leaves it a schema."""
    every = parts(schema)
    at, other = chance.choice(every), copy.deepcopy(chance.choice(every))
    names = list(at.get("properties", {}))
    match chance.randrange(6):
        case 0 if at:
            del at[chance.choice(list(at))]
        case 1 if other:
            key = chance.choice(list(other))
            at[key] = other[key]
        case 2 if names:
            del at["properties"][chance.choice(names)]
        case 3 if names:
            at["required"] = sorted({*at.get("required", []), chance.choice(names)})
        case 4 if names:
            at["properties"][chance.choice(names)] = other
        case _:
            at.clear()
            at.update(other)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_where_nothing_breaks_every_valid_job_stays_valid(seed: int) -> None:
    """A validator of its own is the judge; as in `changes`, shapes that overlap count as one of them."""
    new = copy.deepcopy(TWO)
    edited(new, random.Random(seed))
    try:
        if any(each.effects & BREAKS for each in changes(TWO, new)):
            return
    except NotComparable:
        return
    judge = Draft202012Validator(json.loads(json.dumps(new).replace('"oneOf"', '"anyOf"')))
    assert [error.message for job in JOBS for error in judge.iter_errors(job)] == []


def with_field(value: Any, extra: object) -> Any:
    """A job with one more field in each object."""
    if isinstance(value, list):
        return [with_field(each, extra) for each in value]
    return {k: with_field(v, extra) for k, v in value.items()} | {"extra": extra} if isinstance(value, dict) else value


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_where_nothing_is_warned_of_jobs_with_an_undeclared_field_stay_valid(seed: int) -> None:
    chance = random.Random(seed)
    new = copy.deepcopy(TWO)
    name = chance.choice([name for name, each in new["$defs"].items() if "properties" in each])
    new["$defs"][name]["properties"]["extra"] = copy.deepcopy(chance.choice([True, {}, *parts(new)]))
    try:
        found = changes(TWO, new)
    except NotComparable:
        return
    warned = {each.where for each in found if each.warns}
    assert warned <= {f"{name}.extra"}
    judge = Draft202012Validator(new)
    values: tuple[Any, ...] = (7, "x", None, {})
    refused = [job for job in JOBS for value in values if not judge.is_valid(with_field(job, value))]
    assert warned or not refused


def test_the_jobs_of_that_test_are_valid() -> None:
    assert len(JOBS) >= 3
    assert all(Draft202012Validator(TWO).is_valid(job) for job in JOBS)

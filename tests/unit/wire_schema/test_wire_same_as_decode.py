"""What the schema calls valid is what `decode` takes: over all that Node can write.

What the schema can't say, all of it; each has its test at the end:
- a whole number with a point (`1.0`) is no integer to `decode`. To JSON Schema it is the number 1; Node writes none.
- a number beyond 2^53-1 with an exponent (`1e300`) is one to `decode`, the same in digits isn't. To JSON Schema they
  are equal, and neither is valid.
- `decode` refuses what nests deeper than its `limits`: they are the reader's, so the same data are taken elsewhere.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tasks import TASKS
from tasks.base import Shape
from tasks.codec import DecodeError, Limits, decode
from tasks.number import MAX_SAFE
from tests.unit.tasks.wire_data import EXAMPLES, SHAPES, holder_of, json_values, of_shape, places
from tests.unit.wire_schema.judge import Judge
from workers.wire_schema.json_schema import schema_of, wire_schema
from workers.wire_schema.shapes import wire_names

SCHEMA = wire_schema()
WHOLE = Judge(SCHEMA)
BY_TYPE = {name: Judge(schema_of(name, SCHEMA)) for name in TASKS}
#: JavaScript writes numbers from here on with an exponent.
EXPONENT = 10**21
KINDS: tuple[Any, ...] = (None, True, 7, 1.5, "x", "7", [], {}, {"id": "7"})
#: Values on both sides of each rule.
NUMBERS = (0, -1, 1, 2, -0.5, MAX_SAFE, MAX_SAFE + 1, -MAX_SAFE, -MAX_SAFE - 1, 10**20, 1e-300)
TEXTS = (
    *("", "7\n", "07", "-0", "-7", "0", "٧", "9" * 100, "9" * 101, "unlimited", "Unlimited", "\ud800"),
    *(str(2**63 - 1), str(2**63), "0" * 19, "0" * 20, "email-send", "User", "skip"),
)
HOLDERS: tuple[Any, ...] = ([None], [7], ["7"], [[]], [{}], {"id": 7}, {"__proto__": {}}, {"goal": "g"}, {"all": True})
VALUES = (*KINDS, *NUMBERS, *TEXTS, *HOLDERS)
NAMES = sorted({name for shape in SHAPES for name in wire_names(shape)})
each_example = pytest.mark.parametrize("index", range(len(EXAMPLES)), ids=lambda i: f"{i}-{EXAMPLES[i]['queue']}")


def decodes(data: Any, **options: Any) -> bool:
    try:
        decode(data, **options)
    except ValueError:
        return False
    return True


def check(data: dict[str, Any], why: object) -> bool:
    """That both say the same; returned."""
    kind = data.get("type")
    judge = BY_TYPE.get(kind, WHOLE) if isinstance(kind, str) else WHOLE
    valid, taken = bool(judge.is_valid(data)), decodes(data)
    assert valid == taken, f"{why}: {'valid' if valid else 'invalid'}, but decode {'takes' if taken else 'refuses'} it"
    return valid


def as_node_writes(value: Any) -> Any:
    """What comes of a value by JSON.stringify and json.loads; numbers that need an exponent are made smaller."""
    match value:
        case dict():
            return {key: as_node_writes(each) for key, each in value.items()}
        case list():
            return [as_node_writes(each) for each in value]
        case float() if not math.isfinite(value):
            return None
        case bool() | None | str():
            return value
    if abs(value) >= EXPONENT:
        return 10**20
    return int(value) if value == int(value) else value


def _own_places() -> list[list[tuple[Any, ...]]]:
    """The places of each example that no other one of its shape has before it; of a list, its first member's."""
    known: set[Any] = set()
    found = []
    for job in EXAMPLES:
        shape = TASKS[job["data"]["type"]].shape_of(job["data"])
        new = [each for each in places(job["data"]) if (shape, each) not in known and sum(_members(each)) == 0]
        known |= {(shape, each) for each in new}
        found.append(new)
    return found


def _members(place: tuple[Any, ...]) -> list[int]:
    return [each for each in place if isinstance(each, int)]


OWN_PLACES = _own_places()


def mutants(data: dict[str, Any], own: list[tuple[Any, ...]]) -> Iterator[str]:
    """Changes the data, at one place at a time, and says how: another value, gone, or a name of its type's put in.

    In place, since copies would take most of the time.
    """
    for place in own:
        yield from changed(holder_of(data, place), place)
    kind = TASKS[data["type"]]
    names = {name for shape in (kind, *kind.OLDER_SHAPES) for name in wire_names(shape)}
    for name in sorted(names - data.keys()):
        for value in KINDS:
            data[name] = value
            yield f"{name} is {value!r:.40}"
        del data[name]
    known_by = data.pop("id")
    for value in (*KINDS, *TEXTS):
        data["idempotencyKey"] = value
        yield f"no id, but the key {value!r:.40}"
    data |= {"id": known_by}
    del data["idempotencyKey"]


def changed(holder: Any, place: tuple[Any, ...]) -> Iterator[str]:
    """At one place of what holds it."""
    key = place[-1]
    kept = [*holder] if isinstance(holder, list) else dict(holder)
    near = TEXTS if isinstance(holder[key], str) else HOLDERS if isinstance(holder[key], dict | list) else NUMBERS
    for value in (*KINDS, *near):
        holder[key] = value
        yield f"{place} is {value!r:.40}"
    del holder[key]
    yield f"{place} is gone"
    holder.clear()
    holder.extend(kept) if isinstance(kept, list) else holder.update(kept)


@each_example
def test_any_change_at_one_place(index: int) -> None:
    data = copy.deepcopy(EXAMPLES[index]["data"])
    said = [check(data, why) for why in mutants(data, OWN_PLACES[index])]
    assert data == EXAMPLES[index]["data"]
    assert min(said.count(True), said.count(False)) > 10


@each_example
def test_any_example_mixed_with_another(index: int) -> None:
    data = EXAMPLES[index]["data"]
    for other in EXAMPLES:
        check(data | {key: value for key, value in other["data"].items() if key != "type"}, other["queue"])
        check(other["data"] | data, other["queue"])


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_any_changes_at_several_places(job: dict[str, Any], draw: st.DataObject) -> None:
    data = copy.deepcopy(job["data"])
    values = (st.sampled_from(VALUES) | json_values.map(as_node_writes)).map(copy.deepcopy)
    for _ in range(draw.draw(st.integers(1, 5))):
        place = draw.draw(st.sampled_from([*places(data)]))
        holder = holder_of(data, place)
        match draw.draw(st.sampled_from(["change", "remove", "add"])):
            case "change":
                holder[place[-1]] = draw.draw(values)
            case "remove" if len(data) > 1:
                del holder[place[-1]]
            case _ if isinstance(holder, dict):
                holder[draw.draw(st.sampled_from(NAMES))] = draw.draw(values)
    check(data, data)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_any_data_of_a_shape(shape: Shape) -> None:
    @settings(max_examples=12, deadline=None)
    @given(of_shape(shape).map(as_node_writes), st.sampled_from(NAMES), st.sampled_from(VALUES))
    def each(data: dict[str, Any], name: str, value: Any) -> None:
        if max((abs(n) for n in _numbers(data)), default=0) <= MAX_SAFE:
            assert check(data, data)
        check(data | {name: value}, data)

    each()


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value


def test_the_type_alone_and_the_whole_judge_alike() -> None:
    for job, own in zip(EXAMPLES, OWN_PLACES, strict=True):
        data = copy.deepcopy(job["data"])
        for number, why in enumerate(mutants(data, own)):
            if number % 97 == 0 and data.get("type") == job["data"]["type"]:
                assert WHOLE.is_valid(data) == BY_TYPE[data["type"]].is_valid(data), why


SWARM: dict[str, Any] = next(
    job["data"] for job in EXAMPLES if job["data"]["type"] == "swarm-execution" and "input" in job["data"]
)


def with_steps(steps: Any) -> dict[str, Any]:
    return SWARM | {"allocation": SWARM["allocation"] | {"maxConcurrentSteps": steps}}


def test_a_whole_number_with_a_point_is_valid_and_does_not_decode() -> None:
    data = json.loads(json.dumps(with_steps(7)).replace(": 7}", ": 7.0}"))
    assert WHOLE.is_valid(data)
    assert not decodes(data)
    assert check(with_steps(7), "an integer")
    # There is no schema that tells them apart, even one that takes a single number.
    for schema in ({"const": 7}, {"enum": [7]}, {"type": "integer"}, {"multipleOf": 7}):
        assert Draft202012Validator(schema).is_valid(7.0)
        assert Draft202012Validator(schema).is_valid(7)


def test_a_huge_number_with_an_exponent_decodes_and_is_not_valid() -> None:
    mail = EXAMPLES[0]["data"]
    for number in (1e300, -1e300, 1e21):
        assert decodes(mail | {"timeout": number})
        assert not decodes(mail | {"timeout": int(number)})
        assert not WHOLE.is_valid(mail | {"timeout": number})
        assert not WHOLE.is_valid(mail | {"timeout": int(number)})
        # Either both or neither: they are the same number.
        assert Draft202012Validator({"const": number}).is_valid(int(number))
    assert check(mail | {"timeout": 1.5}, "a fraction")


def test_what_nests_too_deeply_is_valid_and_does_not_decode() -> None:
    value: Any = {}
    for _ in range(Limits().max_depth):
        value = {"x": value}
    data = EXAMPLES[0]["data"] | {"extra": value}
    assert WHOLE.is_valid(data)
    assert not decodes(data)
    # No schema of the data can say it: another reader, who is told so, takes the same.
    assert decodes(data, limits=Limits(max_depth=200))
    with pytest.raises(DecodeError, match="at most 100 levels"):
        decode(data)

"""Job data of every shape: generated from the models, taken from Node's examples, changed at any place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from tasks import TASKS
from tasks.base import Envelope
from tasks.credits import Credits
from tasks.declared import Declared, of_field
from tasks.number import MAX_SAFE

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parents[3] / "workers/dev/example_jobs.json").read_text())
SHAPES: tuple[type[Envelope], ...] = tuple(shape for model in TASKS.values() for shape in (model, *model.OLDER_SHAPES))

text = st.text(st.characters(), max_size=12)  # lone surrogates included
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["__proto__", "constructor", "prototype", "__dict__", "__class__", "model_fields", "user_id", "self", "_older"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
#: What tells shapes apart, or is required where it appears: no unknown field is called so.
_MARKS = frozenset({"input", "context", "config", "swarmId", "runId", "resourceVersionId", "isNewRun", "formValues"})
_CREDITS = st.integers(-(10**30), 10**30).map(str) | st.just("unlimited")


def same(left: Any, right: Any) -> bool:
    """Equality for which NaN equals NaN, and 1 neither 1.0 nor true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and bool(left == right)


def of_shape(shape: type[Envelope]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid data of one shape, with any of its optional fields and unknown ones at every level, in any order."""
    kind = get_args(shape.model_fields["type"].annotation)[0]
    data = _object(shape).map(lambda made: made | {"type": kind})
    data = data.filter(lambda made: made.get("id") is not None)
    if kind == "email-send":
        data = data.map(_one_content)
    if kind == "notification-create":
        data = st.builds(lambda made, key: made | {"id": str(key)}, data, st.integers(0, 2**63 - 1))
        data = data.map(lambda made: made | {"userId": made["userId"] or "1"})
    return st.builds(_shuffled, data, st.randoms(use_true_random=False))


def _one_content(mail: dict[str, Any]) -> dict[str, Any]:
    if mail.get("template") is None:
        return {"subject": "s", "text": "t"} | mail
    return {key: value for key, value in mail.items() if key not in ("text", "html")}


def _object(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    needed, free = {}, {}
    for name, field in model.model_fields.items():
        value = _value(of_field(field))
        key = field.alias or name
        if field.is_required():
            needed[key] = value
        elif key != "type":
            free[key] = value if type(field.default) is str else value | st.none()
    taken = needed.keys() | free.keys() | _MARKS | {"type"}
    unknown = st.dictionaries(names.filter(lambda key: key not in taken), json_values, max_size=2)
    return st.builds(lambda known, other: other | known, st.fixed_dictionaries(needed, optional=free), unknown)


def _value(declared: Declared) -> st.SearchStrategy[Any]:
    kind = declared.kind
    if declared.form is not None:
        is_credits = declared.form in Credits.__metadata__  # type: ignore[attr-defined]
        return _CREDITS if is_credits else st.integers(-1000, 10**9) | st.floats(allow_nan=False, allow_infinity=False)
    if declared.tags:
        return st.one_of(*map(_object, declared.tags.values()))
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is list:
        return st.lists(_value(declared.inner(0)), min_size=1, max_size=2)
    if get_origin(kind) is dict:
        return st.dictionaries(names, json_values, max_size=2)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _object(kind)
    known: dict[Any, st.SearchStrategy[Any]] = {str: text, bool: st.booleans(), int: st.integers(1, MAX_SAFE)}
    return known.get(kind, json_values)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, list):
        return [_shuffled(each, random) for each in value]
    if not isinstance(value, dict):
        return value
    items = [(key, _shuffled(each, random)) for key, each in value.items()]
    random.shuffle(items)
    return dict(items)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the data, the whole excepted."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        yield (*way, name)
        yield from places(each, (*way, name))


def holder_of(data: Any, place: tuple[Any, ...]) -> Any:
    """The object or list that holds a place."""
    for name in place[:-1]:
        data = data[name]
    return data

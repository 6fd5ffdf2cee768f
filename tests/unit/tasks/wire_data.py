"""Job data of every shape: generated from the models, taken from Node's examples, changed at any place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from tasks import TASKS
from tasks.base import Envelope, Task
from tasks.credits import Credits
from tasks.declared import Declared, of_field
from tasks.number import MAX_SAFE, Share
from tasks.vintage import OlderShape
from tasks.wire import WireForm

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parents[3] / "workers/dev/example_jobs.json").read_text())
SHAPES: tuple[type[Envelope], ...] = tuple(shape for model in TASKS.values() for shape in (model, *model.OLDER_SHAPES))

#: Names that mean something to JavaScript, Python or us, and nothing on the wire.
HOSTILE_NAMES = (
    *("__proto__", "constructor", "prototype", "__dict__", "__class__", "toString"),
    *("model_fields", "model_config", "user_id", "has_premium", "typename", "self", "_older", "", " ", "ключ"),
    *("\ud800", "x\udfff", "\0stand-in 0"),
)
#: Names that another shape, or another object of it, declares.
FOREIGN_NAMES = ("context", "input", "allocation", "options", "options_", "chatId", "chatId_", "maxDurationMs", "runId")
TEXTS = ("", "a", "null", "-0", "0", "\x00", "é", "𝕏", "\ud800", "\udfff x", "</script>", "a\u2028b", "x" * 300)
NUMBERS = (0, 1, -1, 0.5, -0.0, 1e300, MAX_SAFE, -MAX_SAFE)

text = st.text(st.characters(), max_size=12)  # lone surrogates included
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(HOSTILE_NAMES)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
_POOLS = st.lists(json_values, min_size=1, max_size=4)
_SEEDS = st.integers(0, 2**32 - 1)
_CREDITS, _SHARE = (next(each for each in get_args(kind) if isinstance(each, WireForm)) for kind in (Credits, Share))
_SHARES = (0, 7, 0.5, 3_600_000 / 7, 900_000.0, MAX_SAFE)


def same(left: Any, right: Any) -> bool:
    """Equality for which NaN equals NaN, and 1 neither 1.0 nor true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and bool(left == right)


@cache
def of_shape(shape: type[Envelope]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid data of one shape, with any of its optional fields and unknown ones at every level, in any order.

    Hypothesis draws a seed and what stands where any JSON may: a strategy for each field takes seconds to build.
    """
    return st.builds(lambda seed, pool: _Draft(Random(seed), pool).data(shape), _SEEDS, _POOLS)


class _Draft:
    """One set of data being made up."""

    def __init__(self, random: Random, pool: list[Any]) -> None:
        self._random = random
        self._pool = pool

    def data(self, shape: type[Envelope]) -> dict[str, Any]:
        kind = get_args(shape.model_fields["type"].annotation)[0]
        made = self._object(shape) | {"type": kind}
        if "schemaVersion" in made:
            made["schemaVersion"] = shape.KNOWN_SCHEMA if issubclass(shape, Task) else 1
        if kind == "email-send":
            made = _one_content(made)
        if kind == "notification-create":
            made |= {"id": str(self._random.randrange(2**63)), "userId": made["userId"] or "1"}
        return made

    def _object(self, model: type[BaseModel]) -> dict[str, Any]:
        made = {}
        for key, declared, required, nullable in _fields(model):
            if required or self._random.random() < 0.6:
                made[key] = None if nullable and self._random.random() < 0.2 else self._value(declared)
        for _ in range(self._random.choice((0, 0, 1, 2))):
            key = self._random.choice((*HOSTILE_NAMES, *FOREIGN_NAMES, "extra", "newField"))
            if key not in _taken(model):
                made[key] = self._any()
        items = list(made.items())
        self._random.shuffle(items)
        return dict(items)

    def _value(self, declared: Declared) -> Any:
        kind, random = declared.kind, self._random
        if declared.form is not None:
            amounts = str(random.choice((0, 7, -(10**30), 10**30, random.randrange(10**19)))), "unlimited"
            return random.choice({_CREDITS: amounts, _SHARE: _SHARES}.get(declared.form, NUMBERS))
        if declared.tags:
            tag = random.choice([*declared.tags])
            return self._object(declared.tags[tag]) | {declared.tag_key: tag}
        if get_origin(kind) is Literal:
            return random.choice(get_args(kind))
        if get_origin(kind) is list:
            return [self._value(declared.inner(0)) for _ in range(random.randint(1, 2))]
        if get_origin(kind) is dict:
            return {random.choice(HOSTILE_NAMES): self._any() for _ in range(random.randint(0, 2))}
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return self._object(kind)
        if kind is str:
            return random.choice(TEXTS)
        if kind is bool:
            return random.random() < 0.5
        return random.choice((1, 2, 1000, MAX_SAFE)) if kind is int else self._any()

    def _any(self) -> Any:
        return self._random.choice(self._pool)


def _one_content(mail: dict[str, Any]) -> dict[str, Any]:
    if mail.get("template") is None:
        return {"subject": "s", "text": "t"} | mail
    return {key: value for key, value in mail.items() if key not in ("text", "html")}


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, Declared, bool, bool], ...]:
    """Each field's name on the wire, what it declares, whether it must be there, and whether it may be null."""
    return tuple(
        (field.alias or name, of_field(field), field.is_required(), not field.is_required() and field.default is None)
        for name, field in model.model_fields.items()
        if name != "type"
    )


@cache
def _taken(model: type[BaseModel]) -> frozenset[str]:
    marks = {"input"} if issubclass(model, OlderShape) else set()  # with it, data are of the newest shape
    return frozenset(marks | {"type"} | {key for key, *_ in _fields(model)})


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

"""What is wrong with a job's data, in words that are safe to store: bounded, one line, no long text quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

#: Longest text that is quoted; a longer one is described by its length, since it may be confidential.
QUOTED_CHARS = 40
#: Longest wording of what was expected, and longest part of a path.
WORDS_CHARS = 80
#: Most parts of a path that are shown; models are not that deep, hostile data may be.
PATH_PARTS = 12

_WORDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "string_unicode": "keys in valid Unicode",
    "invalid_key": "a string as key",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `data.to.0: expected a string, found 7 (integer)`."""

    path: str
    """The field, as it is named on the wire, from `data` on."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


def problem(error: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    """Put one of pydantic's `ValidationError.errors()` into words."""
    location: tuple[int | str, ...] = error["loc"]
    if error["type"] == "missing":
        return Problem(path(location), _declared(model, location), "nothing")
    return Problem(path(location), _expected(error), found(error["input"]))


def path(location: tuple[int | str, ...]) -> str:
    """`data.to.0` for ("to", 0)."""
    shown = [_part(part) for part in location[:PATH_PARTS]]
    return ".".join(["data", *shown, *(["…"] if len(location) > PATH_PARTS else [])])


def found(value: object) -> str:
    """Name a JSON value: short ones are quoted with their kind, long ones only measured."""
    match value:
        case None:
            return "null"
        case bool():
            return f"{str(value).lower()} (boolean)"
        case int():
            return f"{value} (integer)" if abs(value) < 10**20 else "a huge integer"
        case float():
            return f"{value!r} (number)"
        case str():
            return f"a string of {len(value)} characters" if len(value) > QUOTED_CHARS else f"{_quoted(value)} (string)"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return "an object"
        case _:
            return f"a Python {type(value).__name__}"[:WORDS_CHARS]


def _expected(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error":
            words = str(context["expected"])
        case "too_short":
            words = f"a length of at least {context['min_length']}"
        case "too_long":
            words = f"a length of at most {context['max_length']}"
        case kind if kind in _EXPECTED:
            words = _EXPECTED[kind]
        case _:
            words = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    words = _one_line(words)
    return words if len(words) <= WORDS_CHARS else words[: WORDS_CHARS - 1] + "…"


def _declared(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """What the model declares at a place where nothing was found."""
    kind: Any = model
    for part in location:
        kind = _inner(kind, part)
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return "an object"
    return _WORDS.get(origin, "a value")


def _inner(kind: Any, part: int | str) -> Any:
    kind = _without_none(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        named = (f for name, f in kind.model_fields.items() if part in (f.alias, name))
        return _without_none(next((f.annotation for f in named), None))
    arguments = get_args(kind)
    return _without_none(arguments[-1]) if arguments else None


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        rest = [each for each in get_args(kind) if each is not NoneType]
        return rest[0] if len(rest) == 1 else None
    return kind


def _part(part: int | str) -> str:
    if isinstance(part, str) and not re.fullmatch(r"[\w$-]{1,40}", part, re.ASCII):
        return _quoted(part if len(part) <= QUOTED_CHARS else part[: QUOTED_CHARS - 1] + "…")
    return str(part)


def _quoted(text: str) -> str:
    # JSON's escapes keep it on one line and free of lone surrogates; what grows too long by them is cut.
    quoted = json.dumps(text)
    return quoted if len(quoted) <= QUOTED_CHARS + 20 else quoted[: QUOTED_CHARS + 18] + '…"'


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())

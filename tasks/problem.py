"""What is wrong with a job's data, in words that are safe to store: bounded, one line, no long text quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tasks.declared import Declared, options, steps

#: Longest text that is quoted; a longer one is described by its length, since it may be confidential.
QUOTED_CHARS = 40
#: Longest wording of what was expected, and longest part of a path.
WORDS_CHARS = 80
#: Most parts of a path that are shown; models are not that deep, hostile data may be.
PATH_PARTS = 12

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
    way = tuple(steps(model, error["loc"]))
    location = tuple(part for part, _ in way)
    at = way[-1][1] if way else Declared(model)
    match error["type"]:
        case "missing":
            return Problem(path(location), at.words, "nothing")
        case "union_tag_not_found" | "union_tag_invalid" if at.tags and isinstance(error["input"], dict):
            tag = error["input"].get(at.tag_key, error)
            where = path((*location, at.tag_key))
            return Problem(where, _short(options(tuple(at.tags))), "nothing" if tag is error else found(tag))
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
    return _short(words)


def _short(words: str) -> str:
    words = _one_line(words)
    return words if len(words) <= WORDS_CHARS else words[: WORDS_CHARS - 1] + "…"


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

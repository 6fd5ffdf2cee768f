"""The comment of a declaration in TypeScript: what a schema says of its value, in words and in tags."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

_WIDTH = 120
_TAGS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "default",
)
#: A number in JavaScript is exact up to here; a bound beyond it tells nothing.
_MAX_SAFE = 2**53 - 1


def doc_comment(schema: Any, indent: str) -> str:
    """The comment with its line break; empty if there is nothing to say."""
    if not isinstance(schema, dict):
        return ""
    lines = [*_words(str(schema.get("description", "")), _WIDTH - len(indent) - 3), *_tags(schema)]
    safe = [line.replace("*/", "*\\/") for line in lines]
    if not safe:
        return ""
    if len(safe) == 1 and len(indent) + len(safe[0]) + 7 <= _WIDTH:
        return f"{indent}/** {safe[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in safe)
    return f"{indent}/**\n{body}{indent} */\n"


def _words(text: str, width: int) -> Iterator[str]:
    for number, paragraph in enumerate(filter(None, text.split("\n\n"))):
        if number:
            yield ""
        yield from textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False)


def _tags(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("deprecated"):
        yield "@deprecated"
    told = {**_only_branch(schema), **schema}
    for key in _TAGS:
        value = told.get(key)
        if value is None or (key == "maximum" and value >= _MAX_SAFE) or (key == "minimum" and value <= -_MAX_SAFE):
            continue
        if key == "pattern" and len(str(value)) > _WIDTH:
            yield "Its pattern is in schema.json."
            continue
        yield f"@{key} {value if key in ('pattern', 'format') else json.dumps(value)}"
    if examples := told.get("examples"):
        yield f"@example {', '.join(json.dumps(each) for each in examples)}"


def _only_branch(schema: dict[str, Any]) -> dict[str, Any]:
    """What a value is unless it is null, where it is one thing."""
    branches = [each for each in schema.get("anyOf", ()) if isinstance(each, dict) and each.get("type") != "null"]
    return branches[0] if len(branches) == 1 and "properties" not in schema else {}

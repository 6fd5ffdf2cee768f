"""A processor's result as BullMQ stores it. A result that can't be stored never turns success into failure."""

from __future__ import annotations

import json
import math
from typing import Any

#: Characters of the longest result; in UTF-8 it still fits the 512 MB of a Redis string.
MAX_RESULT = 100 * 2**20
#: Characters of what is said about a result that JSON can't carry.
MAX_NOTE = 500


def dump(value: Any) -> tuple[str, str | None]:
    """The text for `returnvalue`, and what was wrong with the value, if anything.

    As in Node, NaN and infinities become null. What JSON can't carry at all (a set, bytes, a cycle) is replaced
    by a placeholder that says so, and so is what is too long for Redis.
    """
    text, note = _dump(value)
    if len(text) <= MAX_RESULT:
        return text, note
    note = f"result of {len(text):,} characters, more than the {MAX_RESULT:,} that are stored"
    return _placeholder(note), note


def _dump(value: Any) -> tuple[str, str | None]:
    try:
        return _text(value), None
    except Exception as error:  # a dict or str of the processor's own may raise anything
        problem = message(error, MAX_NOTE)
    try:
        return _text(_finite(value, ())), None
    except Exception:
        note = clean(f"result of type {type(value).__name__} is not JSON: {problem}", MAX_NOTE)
        return _placeholder(note), note


def _placeholder(note: str) -> str:
    return json.dumps({"unserialisable": note})


def _text(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: JSON can carry them only escaped
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def _finite(value: Any, above: tuple[int, ...]) -> Any:
    if id(value) in above:
        raise ValueError("circular reference")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item, (*above, id(value))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, (*above, id(value))) for item in value]
    return value


def clean(text: str, limit: int) -> str:
    """Text of ours or of an exception that Redis and Node can hold: no lone surrogates, at most `limit` characters."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def message(error: BaseException, limit: int) -> str:
    """What an exception says, or its class's name where it says nothing or can't."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = f"{name} (its message can't be read)"
    return clean(text or name, limit)

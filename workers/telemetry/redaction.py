"""Take secrets and personal data out of values on their way to a log. Pure.

A value under a telling key is hidden whole. In every text, what looks like a secret is hidden, and an e-mail address
keeps its first letter and its domain. What comes out is plain JSON of bounded size, whatever went in: a hostile
`repr`, a cycle or a text of 5 MB costs no more than a long line.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Mapping, Set
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from typing import TypeAlias
from uuid import UUID

from pydantic import BaseModel

from workers.telemetry.secret_patterns import ADDRESS, is_measure, is_secret_key, secret_spans

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

#: Stands for what was hidden.
HIDDEN = "***"
#: Stands for what was left out because a bound was reached.
MORE = "…"
#: Characters kept of one text.
MAX_TEXT = 4_096
#: Characters kept of all texts in one value.
MAX_TOTAL = 16_384
#: Values, on all levels together, and levels that are looked at.
MAX_NODES, MAX_DEPTH = 500, 8

#: Characters beyond the limit that are searched too, so that a secret across it is known as one.
_LOOKAHEAD = 1_024
_MAX_NAME = 32
_MAX_BITS = 256


def redact_text(text: str, limit: int = MAX_TEXT) -> str:
    """Hide the secrets in a text and cut it after `limit` characters, saying how many were left out.

    Args:
        text: any text. Control characters stay: making them visible is the renderer's work.
        limit: characters of the original that are kept. Defaults to 4,096.
    """
    window = text[: limit + _LOOKAHEAD]
    pieces: list[str] = []
    position = 0
    for start, end in secret_spans(window, cut=len(text) > len(window)):
        if start >= limit:
            break
        if start >= position:
            pieces += (window[position:start], HIDDEN)
        position = max(position, end)
    pieces.append(window[position:limit])
    if len(text) > limit:
        pieces.append(f"{MORE} (+{len(text) - limit} characters)")
    return "".join(pieces)


@lru_cache(maxsize=1024)
def _clean_name(name: str) -> str:
    """The names of fields are few and come again with every record."""
    return redact_text(name)


#: Names whose value is what a line is found by. The Node stack's ids say `…:reset-password:…`; that is no secret.
_IDENTITIES = frozenset({"job_id"})
_MAX_IDENTITY = 256


def redact(value: object, key: str = "") -> Plain:
    """A plain JSON copy of any value, without secrets and of bounded size. Never raises.

    Args:
        value: anything. Bytes are counted, not shown; models and dataclasses are shown by their fields.
        key: the name that the value has where it comes from; a telling one hides it whole.
    """
    return _Copy().value(value, key, depth=0)


class _Copy:
    """One copy of one value, with what is left of its bounds."""

    def __init__(self) -> None:
        self._nodes = MAX_NODES
        self._room = MAX_TOTAL

    def value(self, value: object, key: str, depth: int) -> Plain:
        self._nodes -= 1
        if self._nodes < 0 or depth > MAX_DEPTH:
            return MORE
        try:
            if key and is_secret_key(key) and not _is_harmless(key, value):
                return HIDDEN
            if key in _IDENTITIES and type(value) is str:
                return ADDRESS.sub(lambda match: match[0][0] + HIDDEN + "@", value[:_MAX_IDENTITY])
            return self._plain(value, depth)
        except Exception:
            return f"<unprintable {type(value).__name__}>"

    def _plain(self, value: object, depth: int) -> Plain:
        if type(value) is str:  # by far the most frequent
            return self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return _number(value)
        fields = _fields(value)
        if fields is not None:
            return self._mapping(fields, depth)
        if isinstance(value, list | tuple | Set | deque):
            return self._sequence(value, depth)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        return self._text(_as_text(value))

    def _text(self, text: str) -> str:
        limit = min(MAX_TEXT, self._room)
        self._room -= min(limit, len(text))
        return redact_text(text, limit)

    def _key(self, key: str) -> str:
        if len(key) > _MAX_NAME or len(key) > self._room:
            return self._text(key)
        self._room -= len(key)
        return _clean_name(key)

    def _mapping(self, mapping: Mapping[object, object], depth: int) -> Plain:
        # {"name": "Authorization", "value": "…"}: the key stands beside its value
        name = mapping.get("name", mapping.get("key"))
        named = isinstance(name, str) and is_secret_key(str.__str__(name))
        copy: dict[str, Plain] = {}
        for item, value in islice(mapping.items(), self._nodes + 1):
            key = _as_text(item)
            secret = named and key.lower() == "value"
            copy[self._key(key)] = HIDDEN if secret else self.value(value, key, depth + 1)
            if self._nodes < 0:
                copy[MORE] = MORE
                break
        return copy

    def _sequence(self, items: Iterable[object], depth: int) -> Plain:
        taken = list(islice(items, self._nodes + 1))
        # ("Authorization", "…"): headers and parameters come as pairs too
        if len(taken) == 2 and isinstance(taken[0], str | bytes):
            key = _as_text(taken[0])
            return [self._key(key), self.value(taken[1], key, depth + 1)]
        copy: list[Plain] = []
        for item in taken:
            copy.append(self.value(item, "", depth + 1))
            if self._nodes < 0:
                break
        return copy


def _fields(value: object) -> Mapping[object, object] | None:
    """The names and values inside a mapping, model, dataclass or named tuple; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=False))
    return None


def _as_text(value: object) -> str:
    """A text for what has no JSON shape."""
    if isinstance(value, str):
        return str.__str__(value)  # a subclass may answer anything
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, date | time | UUID | Decimal | PurePath | Enum):
        return str(value)
    return repr(value)


def _is_harmless(key: str, value: object) -> bool:
    if value is None or isinstance(value, bool) or (isinstance(value, str) and not value):
        return True
    return isinstance(value, int | float) and is_measure(key)


def _number(value: int | float) -> Plain:
    """The bare number: a subclass may print itself as it likes, and JSON knows no NaN."""
    if isinstance(value, int):
        bits = int.bit_length(value)
        return int.__add__(value, 0) if bits <= _MAX_BITS else f"<int of {bits} bits>"
    bare = float.__add__(value, 0.0)
    return bare if math.isfinite(bare) else str(bare)

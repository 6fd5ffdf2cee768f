"""Amounts of credits: big integers, which JSON carries as strings."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from tasks.wire import Reading, WireForm

#: Most digits of an amount. Those of Node's database have 19; reading a million digits takes seconds.
MAX_DIGITS = 100

_WORDS = 'an integer in a string, or "unlimited"'
_PATTERN = f"(0|-?[1-9][0-9]{{0,{MAX_DIGITS - 1}}})"
_amount = re.compile(_PATTERN, re.ASCII).fullmatch


def _credits(value: Any, info: ValidationInfo) -> int | Literal["unlimited"]:
    if isinstance(value, str):
        if value == "unlimited":
            return "unlimited"
        if _amount(value):
            return int(value)
    elif type(value) is int and not isinstance(info.context, Reading) and abs(value) < 10**MAX_DIGITS:
        return value
    raise ValueError(_WORDS)


Credits: TypeAlias = Annotated[
    int | Literal["unlimited"],
    PlainValidator(_credits),
    WithJsonSchema({"type": "string", "pattern": f"^({_PATTERN}|unlimited)$"}),
    PlainSerializer(str, return_type=str, when_used="json"),
    WireForm(_WORDS, write=str),
]
"""An amount, or "unlimited". On the wire always a string, as BigInt.toString() makes it, so that it comes back the
same, and in the JSON that pydantic writes; in Python an int may be given."""

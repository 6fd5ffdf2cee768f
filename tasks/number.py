"""Numbers as JavaScript has them."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema

from tasks.wire import WireForm

#: The largest integer that a JavaScript number holds exactly (Number.MAX_SAFE_INTEGER).
MAX_SAFE = 2**53 - 1

Count: TypeAlias = Annotated[int, Field(ge=0, le=MAX_SAFE)]
"""A whole number of milliseconds, megabytes, steps …; never negative."""


def _number(value: Any) -> int | float:
    match value:
        case bool():
            pass
        case int() if -MAX_SAFE <= value <= MAX_SAFE:
            return value
        case float() if math.isfinite(value):
            return value
    raise ValueError("a number")


Number: TypeAlias = Annotated[
    int | float, PlainValidator(_number), WithJsonSchema({"type": "number"}), WireForm("a number")
]
"""Any finite number. An integer stays one, so that it is written as it came."""

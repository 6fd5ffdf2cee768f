"""Numbers as JavaScript has them."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

from pydantic import Field, GetCoreSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

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
    int | float,
    PlainValidator(_number),
    WithJsonSchema({"type": "number", "minimum": -MAX_SAFE, "maximum": MAX_SAFE}),
    WireForm("a number"),
]
"""Any finite number. An integer stays one, so that it is written as it came; one that JavaScript has no exact number
for is refused. The schema bounds all of them: it can't tell 1e300, which is taken, from the same in digits."""


_SHARE = f"a number from 0 to {MAX_SAFE}"


class _ShareSchema:
    """The checks of a share, all of them pydantic's own: every swarm and run has two, and Python's take longer."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds: list[CoreSchema] = [
            core_schema.int_schema(ge=0, le=MAX_SAFE, strict=True),
            core_schema.float_schema(ge=0, le=MAX_SAFE, allow_inf_nan=False, strict=True),
        ]
        return core_schema.union_schema(
            [*kinds], mode="left_to_right", custom_error_type="share", custom_error_message=_SHARE
        )


Share: TypeAlias = Annotated[
    int | float,
    _ShareSchema(),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_SAFE}),
    WireForm(_SHARE),
]
"""A number of milliseconds or megabytes, whole or not: a producer may compute it as a share of another, as Node's MCP
tools do for the swarms and runs that a swarm starts. An integer stays one, so that it is written as it came."""

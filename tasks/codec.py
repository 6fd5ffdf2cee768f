"""A job's `data` ↔ its task: the model is picked by `data.type`, unknown fields survive the round trip.

`encode` is the one way to the wire: it gives every shape back as it came, at any depth, with any name. pydantic's own
`model_dump_json()` writes JSON that `decode` understands as the same task: in the newest shape, with null for what was
never set. It has bounds: 255 levels, null for NaN, and lone surrogates are refused in values and replaced in names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tasks
from tasks.base import Task
from tasks.errors import DecodeError, NewerSchema, TooNewError, UnknownTaskType, WireError
from tasks.limits import Limits
from tasks.problem import Problem, found
from tasks.reading import read
from tasks.written import written

__all__ = ["DecodeError", "Limits", "NewerSchema", "TooNewError", "UnknownTaskType", "WireError", "decode", "encode"]

_LIMITS = Limits()


def decode(data: object, types: Mapping[str, type[Task]] | None = None, *, limits: Limits = _LIMITS) -> Task:
    """Turn a job's parsed JSON into the task that its `type` names, whatever shape of it the producer wrote.

    The task shares parts with `data`, which must not be changed as long as it lives.

    Args:
        types: the models by what `data.type` carries. None: those of this package.
        limits: how large and how deep the data may be.

    Raises:
        DecodeError: not an object, beyond the limits, or not what the type says.
        UnknownTaskType: no model for `data.type`.
        NewerSchema: the model is older than `data.schemaVersion`.
    """
    if not isinstance(data, dict):
        raise DecodeError([Problem("data", "an object", _kind(data))])
    model = _model(data, tasks.TASKS if types is None else types)
    if (beyond := limits.exceeded(data)) is not None:
        raise DecodeError([beyond])
    return read(data, model)


def encode(task: Task) -> dict[str, Any]:
    """The job data of a task in the shape that its producer wrote: camelCase, unknown fields as they came, fields never
    set left out. The result shares nothing with the task.

    Raises:
        LoweringError: the task has been changed, and an older shape has no place for the change.
    """
    return written(task.as_written())


def _model(data: dict[Any, Any], types: Mapping[str, type[Task]]) -> type[Task]:
    if "type" not in data:
        raise DecodeError([Problem("data.type", "a string", "nothing")])
    name = data["type"]
    if not isinstance(name, str):
        raise DecodeError([Problem("data.type", "a string", found(name))])
    model = types.get(name)
    if model is None:
        raise UnknownTaskType(name)
    version = data.get("schemaVersion")
    if type(version) is int and version > model.KNOWN_SCHEMA:
        raise NewerSchema(name, version, model.KNOWN_SCHEMA)
    return model


def _kind(data: object) -> str:
    return "a list" if isinstance(data, list) else found(data)

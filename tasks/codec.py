"""A job's `data` ↔ its task: the model is picked by `data.type`, unknown fields survive the round trip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

import tasks
from tasks.base import Shape, Task
from tasks.credits import WIRE
from tasks.errors import DecodeError, NewerSchema, TooNewError, UnknownTaskType, WireError
from tasks.limits import Limits
from tasks.problem import Problem, found, problem
from tasks.wire import wire_form

__all__ = ["DecodeError", "Limits", "NewerSchema", "TooNewError", "UnknownTaskType", "WireError", "decode", "encode"]

#: Most problems that are looked at one by one; pydantic needs 10 µs and 1 kB for each, and hostile data has millions.
MAX_EXAMINED = 1000

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
    keyed = "id" not in data and isinstance(data.get("idempotencyKey"), str)
    wire = data | {"id": data["idempotencyKey"]} if keyed else data
    try:
        # The wire knows the aliases only: a field that happens to be called user_id is an unknown one. model_validate
        # does the same, and takes half a microsecond to look through its arguments.
        task: Task = model.__pydantic_validator__.validate_python(wire, by_alias=True, by_name=False, context=WIRE)
    except ValidationError as error:
        problems = _problems(error, model.type_name(), model.shape_of(data))
    else:
        if keyed:
            task.as_written().model_fields_set.discard("id")
        return task
    raise DecodeError(problems)


def encode(task: Task) -> dict[str, Any]:
    """The job data of a task in the shape that its producer wrote: camelCase, unknown fields as they came, fields never
    set left out.

    The result shares nothing with the task. It is walked by a loop, because unknown fields nest as deep as their
    producer likes; pydantic's own dump gives up at 255 levels.

    Raises:
        LoweringError: the task has been changed, and an older shape has no place for the change.
    """
    written = task.as_written()
    root = {"type": written.type} | _fields(written)
    todo: list[Any] = [root]
    while todo:
        holder = todo.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            match value:
                case BaseModel():
                    holder[key] = _fields(value)
                case dict():
                    holder[key] = dict(value)
                case list() | tuple():
                    holder[key] = list(value)
                case _:
                    continue
            todo.append(holder[key])
    return root


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


def _problems(error: ValidationError, name: str, shape: Shape) -> list[Problem]:
    count = error.error_count()
    if count > MAX_EXAMINED:
        return [Problem("data", f"the fields of {name}", f"{count} problems in them")]
    return [problem(each, shape) for each in error.errors(include_url=False)]


class _Written(NamedTuple):
    """How a field is written."""

    name: str
    key: str
    default: Any
    convert: Callable[[Any], Any] | None


@cache
def _written(model: type[BaseModel]) -> tuple[_Written, ...]:
    table = []
    for name, field in model.model_fields.items():
        form = wire_form(field)
        key = field.serialization_alias or field.alias or name
        table.append(_Written(name, key, field.default, form.write if form else None))
    return tuple(table)


def _fields(model: BaseModel) -> dict[str, Any]:
    unknown = model.model_extra or {}
    told = model.model_fields_set
    present: dict[str, Any] = {}
    for name, key, default, convert in _written(type(model)):
        if name not in told:
            continue
        value = getattr(model, name)
        # An unknown field called `user_id` also marks the declared user_id as set, whose wire name is userId: what is
        # null beside it is taken for absent.
        if name in unknown and value == default:
            continue
        present[key] = convert(value) if convert is not None and value is not None else value
    return present | unknown


def _kind(data: object) -> str:
    return "a list" if isinstance(data, list) else found(data)

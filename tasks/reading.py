"""Data from the wire, checked against the model of the shape they are in. What is wrong is found within bounds."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from tasks.base import Shape, Task
from tasks.errors import DecodeError
from tasks.fail_fast import fail_fast
from tasks.problem import Problem, problem
from tasks.stand_in import StandIns
from tasks.wire import Reading

#: Most problems that are looked at one by one; pydantic needs 10 µs and 1 kB for each, and hostile data has millions.
MAX_EXAMINED = 1000

TaskT = TypeVar("TaskT", bound=Task)


def read(data: dict[str, Any], model: type[TaskT]) -> TaskT:
    """The task that these data are, in any of its shapes.

    Raises:
        DecodeError: they are none. More than 1,000 problems are counted, and the first of each list and object told.
    """
    keyed = "id" not in data and isinstance(data.get("idempotencyKey"), str)
    wire = data | {"id": data["idempotencyKey"]} if keyed else data
    reading = Reading()
    try:
        # The wire knows the aliases only: a field that happens to be called user_id is an unknown one. model_validate
        # does the same, and takes half a microsecond to look through its arguments.
        task: TaskT = model.__pydantic_validator__.validate_python(wire, by_alias=True, by_name=False, context=reading)
        if reading.unclear:
            task = _under_stand_ins(wire, model) or task
    except ValidationError as error:
        found = _second_look(error, wire, model)
    else:
        if not keyed:
            return task
        found = task
    if isinstance(found, DecodeError):
        raise found  # with no context: what it says is all that may be told
    if keyed:
        found.as_written().model_fields_set.discard("id")
    return found


def _second_look(error: ValidationError, wire: dict[str, Any], model: type[TaskT]) -> TaskT | DecodeError:
    """What data are that pydantic has refused: perhaps only for what their unknown fields are called."""
    try:
        return _under_stand_ins(wire, model) or _refusal(error, wire, model)
    except ValidationError as other:
        return _refusal(other, wire, model)


def _under_stand_ins(wire: dict[str, Any], model: type[TaskT]) -> TaskT | None:
    """The task of data whose unknown fields have names that pydantic doesn't keep; None: all names are plain."""
    shape, names = model.shape_of(wire), StandIns()
    renamed = names.put(wire, shape)
    if renamed is wire:
        return None
    checked = shape.__pydantic_validator__.validate_python(renamed, by_alias=True, by_name=False, context=Reading())
    names.take_back(checked)
    return model.of_shape(checked)


def _refusal(error: ValidationError, wire: dict[str, Any], model: type[Task]) -> DecodeError:
    shape, count = model.shape_of(wire), error.error_count()
    if count > MAX_EXAMINED:
        return DecodeError(
            _first(wire, shape) or [Problem("data", f"the fields of {model.type_name()}", "others")], count
        )
    return DecodeError(_problems(error, shape))


def _first(wire: dict[str, Any], shape: Shape) -> list[Problem]:
    """Some of very many problems; none if even a quick look finds too many."""
    try:
        fail_fast(shape).validate_python(StandIns().put(wire, shape), by_alias=True, by_name=False, context=Reading())
    except ValidationError as error:
        return _problems(error, shape) if error.error_count() <= MAX_EXAMINED else []
    return []


def _problems(error: ValidationError, shape: Shape) -> list[Problem]:
    return [problem(each, shape) for each in error.errors(include_url=False)]

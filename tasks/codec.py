"""A job's `data` ↔ its task: the model is picked by `data.type`, unknown fields survive the round trip.

WireError
├── DecodeError      the data is not what the type says; it never will be
└── UnknownTaskType  nobody here knows the type; a newer worker may
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

import tasks
from tasks.base import Task
from tasks.problem import Problem, found, problem

#: Most problems that one error lists.
MAX_PROBLEMS = 5
#: Most problems that are looked at one by one; pydantic needs 10 µs and 1 kB for each, and hostile data has millions.
MAX_EXAMINED = 1000


class WireError(ValueError):
    """The job's data can't become a task."""


class DecodeError(WireError):
    """The job's data is invalid: `data.to.0: expected a string, found 7 (integer)`.

    The text is bounded and quotes no long values, so it may be stored as the job's failedReason.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        shown = [str(each) for each in self.problems[:MAX_PROBLEMS]]
        if len(self.problems) > MAX_PROBLEMS:
            shown.append(f"and {len(self.problems) - MAX_PROBLEMS} more")
        super().__init__("; ".join(shown))

    @property
    def path(self) -> str:
        """Where the first problem is."""
        return self.problems[0].path

    @property
    def expected(self) -> str:
        """What the first problem expected."""
        return self.problems[0].expected

    @property
    def found(self) -> str:
        """What the first problem found."""
        return self.problems[0].found


class UnknownTaskType(WireError):
    """`data.type` names no type known here. No failure yet: the job may be meant for a newer worker."""

    def __init__(self, name: str) -> None:
        self.name = name
        """The type as the job gave it: of any length, not safe to log."""
        super().__init__(str(Problem("data.type", "a task type known here", found(name))))


def decode(data: object) -> Task:
    """Turn a job's parsed JSON into the task that its `type` names.

    Raises:
        DecodeError: not an object, or not what the type says.
        UnknownTaskType: no model for `data.type`.
    """
    if not isinstance(data, dict):
        raise DecodeError([Problem("data", "an object", _kind(data))])
    if "type" not in data:
        raise DecodeError([Problem("data.type", "a string", "nothing")])
    name = data["type"]
    if not isinstance(name, str):
        raise DecodeError([Problem("data.type", "a string", found(name))])
    model = tasks.TASKS.get(name)
    if model is None:
        raise UnknownTaskType(name)
    try:
        # The wire knows the aliases only: a field that happens to be called user_id is an unknown one.
        return model.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = _problems(error, model)
    raise DecodeError(problems)


def encode(task: Task) -> dict[str, Any]:
    """The job data of a task: camelCase, unknown fields as they came, fields never set left out.

    The result shares nothing with the task. It is walked by a loop, because unknown fields nest as deep as their
    producer likes; pydantic's own dump gives up at 255 levels.
    """
    root = {"type": task.type} | _fields(task)
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


def _problems(error: ValidationError, model: type[Task]) -> list[Problem]:
    count = error.error_count()
    if count > MAX_EXAMINED:
        return [Problem("data", f"the fields of {model.type_name()}", f"{count} problems in them")]
    return [problem(each, model) for each in error.errors(include_url=False)]


def _fields(model: BaseModel) -> dict[str, Any]:
    unknown = model.model_extra or {}
    present: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        # An unknown field called `user_id` also marks the declared user_id as set, whose wire name is userId.
        if name in model.model_fields_set and not (name in unknown and value == field.default):
            present[field.serialization_alias or field.alias or name] = value
    return present | unknown


def _kind(data: object) -> str:
    return "a list" if isinstance(data, list) else found(data)

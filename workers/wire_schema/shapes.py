"""The shapes that a task has on the wire, and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.base import Envelope, Task


@dataclass(frozen=True)
class Shape:
    """One shape of a task."""

    model: type[Envelope]
    absent: tuple[str, ...] = ()
    """The fields of other shapes that it can't have: with one of them, the data are taken for the other shape."""


@dataclass(frozen=True)
class TaskShapes:
    """All shapes of one task type."""

    name: str
    """What `data.type` carries."""

    task: type[Task]
    newest: Shape
    older: tuple[Shape, ...] = ()


def task_shapes(types: Mapping[str, type[Task]]) -> list[TaskShapes]:
    """The shapes of each type, by its name in order.

    What tells a task's shapes apart is asked of its `shape_of`, so that the schema says what `decode` does.

    Raises:
        TypeError: `shape_of` doesn't know a shape by the fields that it requires.
    """
    return [_shapes(name, types[name]) for name in sorted(types)]


def wire_names(model: type[Envelope], *, required: bool = False) -> list[str]:
    """The fields as the wire has them; `type` among those that are required, although it has a default."""
    names = []
    for name, field in model.model_fields.items():
        if not required or field.is_required() or name == "type":
            names.append(field.alias or name)
    return names


def _shapes(name: str, task: type[Task]) -> TaskShapes:
    models: list[type[Envelope]] = [task, *sorted(task.OLDER_SHAPES, key=lambda each: each.__name__)]
    shapes = [Shape(model, _absent(task, model, models)) for model in models]
    return TaskShapes(name, task, shapes[0], tuple(shapes[1:]))


def _absent(task: type[Task], model: type[Envelope], models: list[type[Envelope]]) -> tuple[str, ...]:
    least = dict.fromkeys(wire_names(model, required=True))
    if task.shape_of(least) is not model:
        raise TypeError(f"{task.__name__}.shape_of doesn't know {model.__name__} by what it requires: {list(least)}")
    mine = set(wire_names(model))
    others = [name for other in models for name in wire_names(other) if name not in mine]
    return tuple(name for name in dict.fromkeys(others) if task.shape_of({**least, name: None}) is not model)

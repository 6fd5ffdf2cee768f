"""The task types, found: each module of this package may define some, and none is listed by hand.

`TASKS` maps what `data.type` carries to the model, `AnyTask` is the union of them all. A Task subclass whose `type` is
not a literal is a base for others.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import Field

from tasks.base import Task

__all__ = ["TASKS", "AnyTask", "Task", "any_of", "collect"]


def collect(modules: Iterable[ModuleType]) -> Mapping[str, type[Task]]:
    """Map the task types defined in these modules by their `type` literal.

    Raises:
        TypeError: a model without exactly one literal as the default of `type`, or two models for one literal.
    """
    found: dict[str, type[Task]] = {}
    for module in modules:
        for model in vars(module).values():
            if not _is_task_type(model) or model.__module__ != module.__name__:
                continue
            name = model.type_name()
            where = f"{module.__name__}.{model.__name__}"
            if get_args(model.model_fields["type"].annotation) != (name,):
                raise TypeError(f'{where}: declare `type: Literal["{name}"] = "{name}"`, one literal and its default')
            if name in found:
                other = found[name]
                raise TypeError(f"{where}: type '{name}' is already taken by {other.__module__}.{other.__name__}")
            found[name] = model
    return MappingProxyType(found)


def any_of(models: Iterable[type[Task]]) -> Any:
    """The annotation of a field that holds a task of one of these types, told apart by `type`."""
    union: Any = reduce(or_, models)
    return Annotated[union, Field(discriminator="type")] if get_args(union) else union


def _is_task_type(value: object) -> bool:
    if not (inspect.isclass(value) and issubclass(value, Task)):
        return False
    return get_origin(value.model_fields["type"].annotation) is Literal


def _modules() -> Iterable[ModuleType]:
    for module in pkgutil.iter_modules(__path__):
        # The colon makes it import and nothing else: without it, a failed import becomes an AttributeError.
        yield pkgutil.resolve_name(f"{__name__}.{module.name}:")


TASKS: Mapping[str, type[Task]] = collect(_modules())
"""What `data.type` carries → the model of that task type."""

if TYPE_CHECKING:
    # A type checker finds no modules: the stub, which `fleet schema python --write` makes, lists the types for it.
    from tasks.any_task import AnyTask
else:
    AnyTask = any_of(TASKS.values())
    """A task of any type, for pydantic: `TypeAdapter(AnyTask)`, or a field of a model."""

"""A model as it is on the wire: camelCase, unknown fields as they came, fields never set left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel

from tasks.base import Envelope
from tasks.wire import wire_form


def written(shape: Envelope) -> dict[str, Any]:
    """The data of a job, in the shape of this object.

    The result shares nothing with it. It is walked by a loop, because unknown fields nest as deep as their producer
    likes; pydantic's own dump gives up at 255 levels.
    """
    root = {"type": shape.type} | _told(shape)
    todo: list[Any] = [root]
    while todo:
        holder = todo.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            match value:
                case BaseModel():
                    holder[key] = _told(value)
                case dict():
                    holder[key] = dict(value)
                case list() | tuple():
                    holder[key] = list(value)
                case _:
                    continue
            todo.append(holder[key])
    return root


class Field(NamedTuple):
    """How a field is written."""

    name: str
    key: str
    """Its name on the wire."""
    default: Any
    convert: Callable[[Any], Any] | None
    """Makes JSON of its value. None: it is JSON."""

    def json(self, value: Any) -> Any:
        """A value of this field, as the wire has it."""
        return self.convert(value) if self.convert is not None and value is not None else value


@cache
def fields_of(model: type[BaseModel]) -> Mapping[str, Field]:
    """The declared fields of a model by their names on the wire."""
    table = {}
    for name, field in model.model_fields.items():
        form = wire_form(field)
        key = field.serialization_alias or field.alias or name
        table[key] = Field(name, key, field.default, form.write if form else None)
    return MappingProxyType(table)


def _told(model: BaseModel) -> dict[str, Any]:
    """The fields that were given, and those that are unknown."""
    unknown = model.model_extra or {}
    told = model.model_fields_set
    present: dict[str, Any] = {}
    for name, key, default, convert in fields_of(type(model)).values():
        if name not in told:
            continue
        value = getattr(model, name)
        # An unknown field called `user_id` also marks the declared user_id as set, whose wire name is userId: what is
        # null beside it is taken for absent, unless `decode` has seen it and marked the wire name, too.
        if name in unknown and value == default and key not in told:
            continue
        present[key] = convert(value) if convert is not None and value is not None else value
    return present | unknown

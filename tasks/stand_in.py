"""Names of unknown fields that pydantic can't keep apart, or can't take at all: it checks the data under others.

There are two kinds: with a lone surrogate, which JSON can carry and Unicode can't; and those of declared fields in
Python (`user_id`), which it would take for a sign that the declared field (`userId`) was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, get_origin

from pydantic import BaseModel

from tasks.declared import Declared, of_field
from tasks.wire import is_unicode

#: What a stand-in begins with; a field that is really called so gets one, too.
_MARK = "\0stand-in "


class StandIns:
    """The names that have been replaced in one job's data."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def put(self, data: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
        """The data with other names in place of such; the data themselves where there are none.

        It goes where the model leads, and so not into what may be any JSON.
        """
        renamed: dict[str, Any] = self._put(data, Declared(model))
        return renamed

    def take_back(self, model: BaseModel) -> None:
        """Give the unknown fields in a checked object their own names."""
        todo: list[Any] = [model]
        while todo:
            value = todo.pop()
            if isinstance(value, BaseModel):
                self._restore(value)
                todo.extend(getattr(value, name) for name in type(value).model_fields)
            elif isinstance(value, list):
                todo.extend(value)
            elif isinstance(value, dict):
                todo.extend(value.values())

    def _put(self, value: Any, at: Declared) -> Any:
        if isinstance(value, dict):
            if (model := _model(value, at)) is not None:
                return self._put_object(value, model)
            if get_origin(at.kind) is dict and _leads(inner := at.inner("")):
                return _same(value, {key: self._put(each, inner) for key, each in value.items()})
        elif isinstance(value, list) and get_origin(at.kind) is list and _leads(inner := at.inner(0)):
            new = [self._put(each, inner) for each in value]
            return value if all(left is right for left, right in zip(value, new, strict=True)) else new
        return value

    def _put_object(self, value: dict[Any, Any], model: type[BaseModel]) -> dict[Any, Any]:
        fields = _fields(model)
        new = {}
        for key, each in value.items():
            if (declared := fields.on_wire.get(key)) is not None:
                new[key] = self._put(each, declared)
            elif isinstance(key, str) and (key in fields.in_python or key.startswith(_MARK) or not is_unicode(key)):
                stand_in = f"{_MARK}{len(self._names)}"
                self._names[stand_in] = key
                new[stand_in] = each
            else:
                new[key] = each
        return _same(value, new)

    def _restore(self, model: BaseModel) -> None:
        unknown = model.model_extra
        if not unknown or unknown.keys().isdisjoint(self._names):
            return
        items = [(self._names.get(key, key), value) for key, value in unknown.items()]
        told = model.model_fields_set
        told.difference_update(self._names)
        in_python = _fields(type(model)).in_python
        for name, _ in items:
            if name not in in_python:
                told.add(name)
            elif name in told:
                told.add(in_python[name])  # see tasks.written: the declared field was there, too
        unknown.clear()
        unknown.update(items)


class _Fields(NamedTuple):
    on_wire: Mapping[str, Declared]
    in_python: Mapping[str, str]
    """Those that are called otherwise on the wire, with their names there."""


@cache
def _fields(model: type[BaseModel]) -> _Fields:
    keys = {name: field.alias or name for name, field in model.model_fields.items()}
    on_wire = {keys[name]: of_field(field) for name, field in model.model_fields.items()}
    return _Fields(on_wire, {name: key for name, key in keys.items() if name not in on_wire})


def _model(value: dict[Any, Any], at: Declared) -> type[BaseModel] | None:
    """The model that an object is checked against."""
    if isinstance(at.kind, type) and issubclass(at.kind, BaseModel):
        return at.kind
    tags = at.tags
    tag = value.get(at.tag_key) if tags else None
    return tags.get(tag) if isinstance(tag, str) else None


def _leads(at: Declared) -> bool:
    """Whether there may be models in it."""
    kind = at.kind
    return bool(at.tags) or get_origin(kind) in (list, dict) or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _same(old: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    """The old one if the new one is no different."""
    return old if old.keys() == new.keys() and all(old[key] is new[key] for key in old) else new

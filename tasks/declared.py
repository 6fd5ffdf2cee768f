"""What a model declares at a place of its data, found by the way that pydantic describes to an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tasks.wire import WireForm, wire_form

_WORDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Declared:
    """The type of one place."""

    kind: Any
    """None: it is not known."""
    discriminator: str | None = None
    """The field, by its name in Python, that tells the models of a union apart."""
    form: WireForm | None = None

    @property
    def words(self) -> str:
        """What is expected there."""
        if self.form is not None:
            return self.form.words
        if get_origin(self.kind) is Literal:
            return options(get_args(self.kind))
        if _is_model(self.kind) or self.discriminator is not None:
            return "an object"
        return _WORDS.get(get_origin(self.kind) or self.kind, "a value")

    @property
    def tag_key(self) -> str:
        """The discriminator's name on the wire."""
        name = self.discriminator or ""
        return next((_key(each, name) for each in get_args(self.kind) if _is_model(each)), name)

    @property
    def tags(self) -> dict[Any, Any]:
        """The models of a discriminated union, by what their discriminator says."""
        models = [each for each in get_args(self.kind) if _is_model(each)] if self.discriminator else []
        return {tag: each for each in models for tag in get_args(each.model_fields[self.discriminator].annotation)}

    def inner(self, part: int | str) -> Declared:
        """What is declared one step on."""
        if _is_model(self.kind):
            fields = self.kind.model_fields
            return next((of_field(field) for name, field in fields.items() if part in (field.alias, name)), UNKNOWN)
        arguments = get_args(self.kind)
        return _of_kind(arguments[-1]) if arguments else UNKNOWN


UNKNOWN = Declared(None)


def steps(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterator[tuple[int | str, Declared]]:
    """The parts of a location that are names on the wire, each with what is declared there. The others are the tags
    that pydantic puts in where it has picked a model from a union.
    """
    at = Declared(model)
    for part in location:
        if part in (tags := at.tags):
            at = Declared(tags[part])
            continue
        at = at.inner(part)
        yield part, at


def of_field(field: FieldInfo) -> Declared:
    """What a field declares; an optional one the same as one that is not."""
    discriminator = field.discriminator if isinstance(field.discriminator, str) else None
    return _of_kind(field.annotation, discriminator, wire_form(field))


def options(values: tuple[Any, ...]) -> str:
    """`'a', 'b' or 'c'`."""
    quoted = [repr(each) for each in values]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _of_kind(kind: Any, discriminator: str | None = None, form: WireForm | None = None) -> Declared:
    if get_origin(kind) is Annotated:
        kind, *said = get_args(kind)
        named = (each.discriminator for each in said if isinstance(each, FieldInfo))
        discriminator = next((each for each in named if isinstance(each, str)), discriminator)
        form = next((each for each in said if isinstance(each, WireForm)), form)
        return _of_kind(kind, discriminator, form)
    if get_origin(kind) in (Union, UnionType):
        rest = [each for each in get_args(kind) if each is not NoneType]
        if len(rest) == 1:
            return _of_kind(rest[0], discriminator, form)
        return Declared(kind, discriminator, form) if discriminator or form else UNKNOWN
    return Declared(kind, discriminator, form)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _key(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name

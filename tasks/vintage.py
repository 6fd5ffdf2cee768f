"""Older shapes of a task: lifted to the task when read, lowered to what their producer knows when written.

A task has one model, which is also its newest shape. What came in an older one is kept apart in that shape: written
back, it is the same but for what has been changed since. A change is written if `decode` reads it back as the same.

Renewed, the task says in the newest shape all that the older one says, unknown fields included. Where an object of the
older shape becomes another one, its unknown fields go there; one whose name the newest shape declares there gets an
underscore behind it, and as many as make it unlike any other. What is left out is what says nothing: declared fields
that are null, and objects without fields.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from pydantic import ModelWrapValidatorHandler, ValidationInfo, model_validator

from tasks.base import Envelope, Part, Task, differ
from tasks.codec import decode
from tasks.errors import WireError
from tasks.limits import Limits
from tasks.written import fields_of, written

#: How deep data may be is for those who read them to say.
_UNBOUNDED = Limits(max_depth=sys.maxsize)


class LoweringError(ValueError):
    """A change of a task has no place in the shape that its producer wrote (`renewed()` gives it the newest shape), or
    is no valid value in any.
    """


PartT = TypeVar("PartT", bound=Part)


def made(model: type[PartT], source: Part | None = None, /, **values: Any) -> PartT:
    """An object of these values, which are right: they come from an object that has been checked, and checking them
    again would double the time of decoding. What is None is left out, unless it must be there.

    Args:
        source: whose unknown fields it takes over.
    """
    known = _known(model)
    told = {name: value for name, value in values.items() if value is not None or name in known.needed}
    new = model.__new__(model)
    object.__setattr__(new, "__dict__", known.defaults | told)
    object.__setattr__(new, "__pydantic_fields_set__", set(told))
    object.__setattr__(new, "__pydantic_extra__", _taken_over(source, known.keys))
    object.__setattr__(new, "__pydantic_private__", None)
    return new


class _Known(NamedTuple):
    defaults: dict[str, Any]
    needed: frozenset[str]
    keys: frozenset[str]
    """What the fields are called on the wire."""


@cache
def _known(model: type[Part]) -> _Known:
    fields = model.model_fields
    if made_anew := [name for name, field in fields.items() if field.default_factory is not None]:
        raise TypeError(f"{model.__name__}.{made_anew[0]}: what older shapes are lifted to has constant defaults alone")
    needed = frozenset(name for name, field in fields.items() if field.is_required())
    return _Known({name: field.default for name, field in fields.items()}, needed, frozenset(fields_of(model)))


def _taken_over(source: Part | None, taken: frozenset[str]) -> dict[str, Any]:
    """The unknown fields of an object that becomes another one, under names that are free there."""
    unknown = source.model_extra if source is not None else None
    if not unknown or taken.isdisjoint(unknown):
        return dict(unknown or {})
    free = {name: value for name, value in unknown.items() if name not in taken}
    for name in sorted(taken.intersection(unknown)):
        other = f"{name}_"
        while other in taken or other in free:
            other += "_"
        free[other] = unknown[name]
    return free


class OlderShape(Envelope, ABC):
    """One shape that producers of the past write, or still do."""

    @abstractmethod
    def lift(self) -> dict[str, Any]:
        """The fields of the task beyond the envelope, by their names in Python. They say all that this object says."""

    @abstractmethod
    def lower(self, task: Any) -> Self:
        """This object with the task's values beyond the envelope, where they have a place here. The task is valid; the
        object needn't be.
        """


class EvolvedTask(Task):
    """A task that has older shapes; `shape_of` tells them apart."""

    _older: ClassVar[OlderShape | None] = None
    # Lifted objects have one of their own, kept beside their fields as a cached property is: copied and pickled with
    # them, no part of them. A private attribute would make every decoding slower by a tenth.

    @model_validator(mode="wrap")
    @classmethod
    def _of_any_shape(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        shape = cls.shape_of(data)
        if shape is cls or not issubclass(shape, OlderShape):  # the first alone takes a tenth of the second's time
            return handler(data)
        return cls._lifted(shape.model_validate(data, by_alias=True, by_name=False, context=info.context))

    @classmethod
    def of_shape(cls, written: Envelope) -> Self:
        """See Task."""
        return cls._lifted(written) if isinstance(written, OlderShape) else super().of_shape(written)

    @classmethod
    def _lifted(cls, older: OlderShape) -> Self:
        fields = {name: getattr(older, name) for name in Envelope.model_fields} | older.lift()
        task = made(cls, older, **fields)
        task.__dict__["_older"] = older
        return task

    def as_written(self) -> Envelope:
        """See Task."""
        older = self._older
        if older is None or not self._changed(older):
            return older or self
        shape = type(older).__name__
        newest = self._read(self.renewed(), "no task of its type has that")
        common = {name: getattr(newest, name) for name in Envelope.model_fields}
        lowered = older.amended(**common).lower(newest)
        if changed := newest._changed(lowered):
            raise LoweringError(f"{', '.join(changed)}: {shape} has no place for it; write the task renewed()")
        self._read(lowered, f"{shape} has no place for it; write the task renewed()")
        return lowered

    def renewed(self) -> Self:
        """The task in its newest shape, whatever shape it came in."""
        copy = self.model_copy()
        copy.__dict__.pop("_older", None)
        return copy

    def _read(self, shape: Envelope, advice: str) -> Self:
        """What this object is to those who read it."""
        try:
            task = decode(written(shape), {self.type_name(): type(self)}, limits=_UNBOUNDED)
        except WireError as error:
            raise LoweringError(f"{error}; {advice}") from None
        return self.of_shape(task)

    def _changed(self, older: OlderShape) -> list[str]:
        """The fields that differ from what the older shape says."""
        said = type(self)._lifted(older)
        known = [name for name in type(self).model_fields if differ(getattr(said, name), getattr(self, name))]
        return known + _differing(said.model_extra or {}, self.model_extra or {})


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    both = left.keys() & right.keys()
    return [*(left.keys() ^ right.keys()), *(key for key in both if differ(left[key], right[key]))]

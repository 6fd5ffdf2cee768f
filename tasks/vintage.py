"""Older shapes of a task: lifted to the task when read, lowered to what their producer knows when written.

A task has one model, which is also its newest shape. What came in an older one is kept apart in that shape: written
back, it is the same but for what has been changed since.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

from pydantic import ModelWrapValidatorHandler, ValidationInfo, model_validator

from tasks.base import Envelope, Part, Task, differ


class LoweringError(ValueError):
    """A change of a task has no place in the shape that its producer wrote; `renewed()` gives it the newest shape."""


PartT = TypeVar("PartT", bound=Part)


def made(model: type[PartT], /, **values: Any) -> PartT:
    """An object of these values, which are right: they come from an object that has been checked, and checking them
    again would double the time of decoding. What is None is left out, unless it must be there.
    """
    defaults, needed = _defaults(model)
    told = {name: value for name, value in values.items() if value is not None or name in needed}
    new = model.__new__(model)
    object.__setattr__(new, "__dict__", defaults | told)
    object.__setattr__(new, "__pydantic_fields_set__", set(told))
    object.__setattr__(new, "__pydantic_extra__", {})
    object.__setattr__(new, "__pydantic_private__", None)
    return new


@cache
def _defaults(model: type[Part]) -> tuple[dict[str, Any], frozenset[str]]:
    fields = model.model_fields
    if made_anew := [name for name, field in fields.items() if field.default_factory is not None]:
        raise TypeError(f"{model.__name__}.{made_anew[0]}: what older shapes are lifted to has constant defaults alone")
    needed = frozenset(name for name, field in fields.items() if field.is_required())
    return {name: field.default for name, field in fields.items()}, needed


class OlderShape(Envelope, ABC):
    """One shape that producers of the past write, or still do."""

    @abstractmethod
    def lift(self) -> dict[str, Any]:
        """The fields of the task beyond the envelope, by their names in Python."""

    @abstractmethod
    def lower(self, task: Any) -> Self:
        """This object with the task's values beyond the envelope, where they have a place here."""


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
    def _lifted(cls, older: OlderShape) -> Self:
        fields = {name: getattr(older, name) for name in Envelope.model_fields} | older.lift()
        taken = {field.alias for field in cls.model_fields.values()}
        unknown = {key: value for key, value in (older.model_extra or {}).items() if key not in taken}
        task = made(cls, **fields)
        object.__setattr__(task, "__pydantic_extra__", unknown)  # its names are anybody's, so they can't be arguments
        task.__dict__["_older"] = older
        return task

    def as_written(self) -> Envelope:
        """See Task."""
        older = self._older
        if older is None or not self._changed(older):
            return older or self
        common = {name: getattr(self, name) for name in Envelope.model_fields}
        lowered = older.amended(**common).lower(self)
        if changed := self._changed(lowered):
            shape = type(lowered).__name__
            raise LoweringError(f"{', '.join(changed)}: {shape} has no place for it; write the task renewed()")
        return lowered

    def renewed(self) -> Self:
        """The task in its newest shape, whatever shape it came in."""
        copy = self.model_copy()
        copy.__dict__.pop("_older", None)
        return copy

    def _changed(self, older: OlderShape) -> list[str]:
        """The fields that differ from what the older shape says."""
        said = type(self)._lifted(older)
        known = [name for name in type(self).model_fields if differ(getattr(said, name), getattr(self, name))]
        return known + _differing(said.model_extra or {}, self.model_extra or {})


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    both = left.keys() & right.keys()
    return [*(left.keys() ^ right.keys()), *(key for key in both if differ(left[key], right[key]))]

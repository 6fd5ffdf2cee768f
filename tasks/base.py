"""What every task has: what Node puts in a job's `data`, camelCase on the wire, snake_case here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo
from pydantic.alias_generators import to_camel

from tasks.number import MAX_SAFE, Number
from tasks.wire import Reading


def differ(left: Any, right: Any) -> bool:
    """Whether two values are not the same; NaN is the same as itself."""
    return left is not right and bool(left != right)


#: What fields of any part are called in Python, where the wire calls them otherwise.
_in_python: set[str] = set()


def _unknown(name: str, info: ValidationInfo) -> str:
    """The name of an unknown field, looked at as it goes by: data in which one is unclear are read once more."""
    if name in _in_python and isinstance(info.context, Reading):
        info.context.unclear = True
    return name


class Part(BaseModel):
    """An object on the wire.

    Unknown fields are kept and written back untouched: they may belong to a newer producer.
    Strict: a number is never taken for a string, so a producer's mistake is named instead of guessed at. A field that
    may be absent may also be null; either comes back as it was.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        frozen=True,
        strict=True,
        serialize_by_alias=True,
    )

    if not TYPE_CHECKING:  # to a type checker without pydantic's plug-in it would be an argument of every model
        __pydantic_extra__: dict[Annotated[str, PlainValidator(_unknown)], Any]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _in_python.update(name for name, field in cls.model_fields.items() if (field.alias or name) != name)

    def amended(self, **values: Any) -> Self:
        """A copy with these values; the object itself where it has them already."""
        changed = {name: value for name, value in values.items() if differ(getattr(self, name), value)}
        return self.model_copy(update=changed) if changed else self


class Envelope(Part):
    """The fields that the data of any job may have."""

    type: str
    """Tells the task types apart; the queue's name does not."""

    id: str
    """The task's id; BullMQ's job id may differ (`task-<digits>`, counters). Where a producer gives an idempotency key
    alone, that is the id."""

    user_id: str | None = None
    status: str | None = None
    """Node's word for its state (see `tasks.status`); Node shows it before BullMQ's own state."""

    idempotency_key: str | None = None
    """What is done once, however often it is added: jobs with the same key are one (see `tasks.ids`)."""

    timeout: Number | None = None
    """How long this task may take, in milliseconds. None: what its queue says."""

    schema_version: Annotated[int, Field(ge=1, le=MAX_SAFE)] | None = None
    """The version of the type's shape that its producer writes. None: one of those without numbers, which are 1."""


Shape: TypeAlias = type[Envelope]
"""A model that data are checked against."""


class Task(Envelope):
    """The typed content of a job's `data`: one model a type, whatever shapes of it there are on the wire."""

    KNOWN_SCHEMA: ClassVar[int] = 1
    """The newest `schemaVersion` that this model can read."""

    OLDER_SHAPES: ClassVar[tuple[Shape, ...]] = ()
    """The models of other shapes that producers write; `shape_of` tells them apart."""

    @classmethod
    def type_name(cls) -> str:
        """The literal that `data.type` carries for this model."""
        name: Any = cls.model_fields["type"].default
        return str(name)

    @classmethod
    def shape_of(cls, data: Any) -> Shape:
        """The model that data of this type is checked against: the task's own, or that of an older shape."""
        return cls

    @classmethod
    def of_shape(cls, written: Envelope) -> Self:
        """The task that an object of one of its shapes is: itself, where it is one already."""
        if not isinstance(written, cls):
            raise TypeError(f"{type(written).__name__} is no shape of {cls.__name__}")
        return written

    def as_written(self) -> Envelope:
        """The task in the shape that its producer wrote.

        Raises:
            LoweringError: what has been changed since has no place in that shape.
        """
        return self

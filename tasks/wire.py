"""How a field looks on the wire, where its Python type does not tell; and what is being read from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class WireForm:
    """Metadata of a field: `Annotated[int, WireForm("an integer in a string", write=str)]`."""

    words: str
    """What is expected there, for errors."""

    write: Callable[[Any], Any] | None = None
    """Makes JSON of its value. None: it is JSON."""


class Reading:
    """The context of one validation of data from the wire, given to pydantic. Without it, values come from Python."""

    unclear = False  # here, since one is made for each job
    """Whether an unknown field has the name of a declared one in Python; see `tasks.stand_in`."""


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON can carry a lone surrogate, and Unicode can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def wire_form(field: FieldInfo) -> WireForm | None:
    """The form that a field declares, also in an optional's parts."""
    return next((each for each in metadata(field) if isinstance(each, WireForm)), None)


def metadata(field: FieldInfo) -> Iterator[Any]:
    """All that is said of a field's type beside the type."""
    yield from field.metadata
    todo = [field.annotation]
    while todo:
        kind: Any = todo.pop()
        if get_origin(kind) is Annotated:
            yield from kind.__metadata__
        elif kind is not None:
            todo.extend(each for each in get_args(kind) if get_origin(each) is Annotated)

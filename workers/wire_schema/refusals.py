"""What one schema takes and another doesn't: the jobs of a writer that a reader refuses, or doesn't read whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from workers.wire_schema.forms import Form, Forms


class Reason(Enum):
    """Why."""

    TASK = "a task type that the reader doesn't know"
    SHAPE = "a shape of a task that the reader doesn't know"
    REQUIRED = "a field that the reader requires may be absent"
    ABSENT = "a field may be there that must be absent for the reader"
    VALUE = "a constant that the reader doesn't take"
    TYPE = "a type that the reader doesn't take"
    LIMIT = "beyond what the reader takes"
    UNKNOWN = "unknown fields, which the reader doesn't take"
    UNREAD = "a field that the reader takes as an unknown one"
    UNDECLARED = "a field of the reader's that the writer may fill with anything, as an unknown one"

    @property
    def refused(self) -> bool:
        """Whether the reader refuses the job. An undeclared field: only if it is there, which no schema tells."""
        return self not in (Reason.UNREAD, Reason.UNDECLARED)


@dataclass(frozen=True)
class Refusal:
    """One difference."""

    where: str
    """The definition and the field in it, as the wire has it: `RunInput.config`, `EmailSend.to[]`."""
    reason: Reason
    writer: str = ""
    """What the writer may write, in words."""
    reader: str = ""
    """What the reader takes instead, in words."""


#: Characters of a constant or a rule that are shown.
_SHOWN = 80
_WORDS = {"object": "an object", "array": "a list", "string": "a string", "integer": "an integer", "number": "a number"}


class Refusals:
    """Compares the schemas of two files.

    Args:
        writer: the alternatives of what is written.
        reader: of what is read.
    """

    def __init__(self, writer: Forms, reader: Forms) -> None:
        self._writer, self._reader = writer, reader
        self._open: set[tuple[str, str]] = set()
        # By place and both schemas, which are kept so that their ids stay theirs: a field is in many alternatives.
        self._known: dict[tuple[str, int, int], tuple[Any, Any, list[Refusal]]] = {}

    def of(self, written: Any, read: Any, where: str = "") -> list[Refusal]:
        """All differences between what one schema allows to write and what another takes, each once.

        Raises:
            NotComparable: one of them isn't a schema.
        """
        readers = self._reader.of(read)
        if not readers:
            return [Refusal(where, Reason.ABSENT)] if self._writer.of(written) else []
        found: dict[Refusal, None] = {}
        writers = self._writer.of(written)
        for form in writers:
            found.update(dict.fromkeys(self._of_form(form, writers, readers, where)))
        return list(found)

    def _of_form(self, form: Form, writers: list[Form], readers: list[Form], where: str) -> list[Refusal]:
        """Against the alternative of the reader that takes all of it, else against its counterpart: of that name, and
        with most of it.
        """
        tried = [(each.name, found) for each in readers if (found := self._pair(form, each, where)) is not None]
        tried.sort(key=lambda each: (_refused(each[1]) > 0, each[0] != form.name, *_cost(each[1])))
        best = tried[0][1] if tried else None
        if best is None:
            reason = Reason.VALUE if form.kind == "value" else Reason.TYPE
            return [Refusal(where, reason, _words(form), " or ".join(dict.fromkeys(map(_words, readers))))]
        names = {each.name for each in readers}
        several = len(names) > 1 or len({each.name for each in writers}) > 1
        if several and form.kind == "object" and form.name and form.name not in names and _refused(best):
            return [Refusal(form.name, Reason.SHAPE)]
        return best

    def _pair(self, written: Form, read: Form, where: str) -> list[Refusal] | None:
        """Against one alternative; None where it is of another kind."""
        if written.kind == "value":
            return list(_rules(written, read, where)) if read.takes(written.value) else None
        if read.kind == "any":
            return list(_limits(written, read, where))
        if written.kind != read.kind and (written.kind, read.kind) != ("integer", "number"):
            return None
        found = list(_limits(written, read, where))
        if written.kind == "array":
            return found + self.of(written.rest, read.rest, f"{where}[]")
        return found + self._fields(written, read, written.name or where) if written.kind == "object" else found

    def _fields(self, written: Form, read: Form, where: str) -> list[Refusal]:
        pair = (written.name, read.name)
        if all(pair) and pair in self._open:
            return []  # a definition in itself: the outer one tells
        self._open.add(pair)
        try:
            names = sorted(read.required - written.required)
            found = [Refusal(f"{where}.{name}", Reason.REQUIRED) for name in names]
            for name, schema in written.fields.items():
                found += self._field(schema, read, name, f"{where}.{name}")
            for name in sorted(read.fields.keys() - written.fields.keys() - read.required):
                found += self._undeclared(written.rest, read.fields[name], f"{where}.{name}")
            return found + self._rest(written, read, where)
        finally:
            self._open.discard(pair)

    def _field(self, schema: Any, read: Form, name: str, where: str) -> list[Refusal]:
        if name in read.fields:
            other = read.fields[name]
            key = (where, id(schema), id(other))
            if key not in self._known:
                self._known[key] = (schema, other, self.of(schema, other, where))
            return self._known[key][2]
        if not self._writer.of(schema):
            return []
        beyond = self.of(schema, read.rest, where) if read.rest is not True else []
        return beyond or [Refusal(where, Reason.UNREAD)]

    def _undeclared(self, rest: Any, schema: Any, where: str) -> list[Refusal]:
        if not any(each.reason.refused for each in self.of(rest, schema, where)):
            return []
        words = " or ".join(dict.fromkeys(map(_words, self._reader.of(schema))))
        return [Refusal(where, Reason.UNDECLARED, reader=f"takes {words} alone" if words else "must be absent")]

    def _rest(self, written: Form, read: Form, where: str) -> list[Refusal]:
        if read.rest is False:
            return [] if written.rest is False else [Refusal(where, Reason.UNKNOWN)]
        return self.of(written.rest, read.rest, f"{where}.*")


def _refused(found: list[Refusal]) -> int:
    return sum(each.reason.refused for each in found)


def _cost(found: list[Refusal]) -> tuple[int, int, int]:
    """How far apart two alternatives are: first by which fields they have."""
    fields = sum(each.reason in (Reason.REQUIRED, Reason.ABSENT) for each in found)
    return fields, _refused(found), len(found)


def _limits(written: Form, read: Form, where: str) -> Iterable[Refusal]:
    lower: Callable[[float, float], bool] = lambda mine, bound: mine < bound  # noqa: E731
    upper: Callable[[float, float], bool] = lambda mine, bound: mine > bound  # noqa: E731
    for beyond, mine, bounds in ((lower, written.least, read.least), (upper, written.most, read.most)):
        for key, bound in bounds.items():
            if key not in mine or beyond(mine[key], bound):
                was = f"{key} {mine[key]}" if key in mine else f"no {key}"
                yield Refusal(where, Reason.LIMIT, was, f"{key} {bound}")
    yield from _rules(written, read, where)


def _rules(written: Form, read: Form, where: str) -> Iterable[Refusal]:
    told = dict(written.rules)
    for key, value in sorted(read.rules - written.rules):
        if written.kind == "value" and key == "pattern":
            continue  # tried on the constant itself
        was = f"{key} {_short(told[key])}" if key in told else f"no {key}"
        yield Refusal(where, Reason.LIMIT, was, f"{key} {_short(value)}")


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _words(form: Form) -> str:
    if form.kind == "value":
        value = json.loads(form.value)
        return _short(repr(value) if isinstance(value, str) else form.value)
    return form.name or _WORDS.get(form.kind, "anything")

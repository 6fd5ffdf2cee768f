"""One condition on what is in a job: `data.userId=42`, `data.to~example.com`, `opts.attempts!=5`. Pure.

A path, an operator and a value. The path begins with data, opts, progress or returnvalue; its parts are names in
objects or places in lists, and a name with dots is written in quotes: `data."odd.name".0=null`. In a list a name looks
at each of its objects, and a condition on a list is also one on its items.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

from workers.broker.job_view import JobView
from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json
from workers.queue_service.errors import InvalidRequestError

Operator: TypeAlias = Literal["=", "!=", "~"]

#: What a path may begin with.
ROOTS = ("data", "opts", "progress", "returnvalue")
#: Bounds of what is asked, so that one job costs little to compare.
MAX_PARTS, MAX_CHARS = 32, 1000
#: Values of one job that a path with lists in it leads to, at most; beyond them it is not looked.
MAX_VALUES = 10_000
#: Characters of what was written that an error quotes.
MAX_QUOTED = 80

_FORM = "a condition like data.userId=42, data.to~example.com or opts.attempts!=5"
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^."=!~\s]+')
_OPERATOR = re.compile(r"!=|=|~")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; see above."""

    path: tuple[str, ...]
    """The root first."""
    operator: Operator
    text: str
    """The value as it was written. Without quotes it stands for the text itself and, where it is a JSON literal, for
    that too: `42` is 42 and "42", since Node writes its ids as texts. In quotes it is a text and nothing else. `null`
    stands for what is not there, too. `~` looks for a part of a text or of a number, in whatever case."""

    def matches(self, view: JobView) -> bool:
        """Whether the job is so. What could not be read, or is not whole, is as if it were not there."""
        if self.operator == "!=":
            return not self._equal(view)
        return self._equal(view) if self.operator == "=" else self._contained(view)

    def _equal(self, view: JobView) -> bool:
        wanted = _meanings(self.text)
        is_there = False
        for value in self._values(view):
            is_there = True
            items = value if isinstance(value, list) else ()
            if any(_same(each, other) for each in (value, *items) for other in wanted):
                return True
        return not is_there and None in wanted

    def _contained(self, view: JobView) -> bool:
        wanted = str(_meanings(self.text)[-1]).casefold()
        for value in self._values(view):
            items = value if isinstance(value, list) else (value,)
            if any(wanted in shown.casefold() for each in items if (shown := _shown(each)) is not None):
                return True
        return False

    def _values(self, view: JobView) -> Iterator[Any]:
        root = self.path[0]
        if root in view.cut:
            return iter(())
        return _walk(getattr(view, root), self.path[1:], [MAX_VALUES])

    def __str__(self) -> str:
        parts = (part if _is_plain(part) else json.dumps(part, ensure_ascii=False) for part in self.path)
        return f"{'.'.join(parts)}{self.operator}{self.text}"


def parse_condition(text: str) -> Condition:
    """A condition as it is written.

    Raises:
        InvalidRequestError: says what is wrong with it.
    """
    if len(text) > MAX_CHARS:
        raise InvalidRequestError("where", f"at most {MAX_CHARS:,} characters, found {len(text):,}")
    path, at = _path(text)
    operator = _OPERATOR.match(text, at)
    if operator is None or not path:
        raise InvalidRequestError("where", f"expected {_FORM}, found {quoted(text)}")
    if path[0] not in ROOTS or len(path) > MAX_PARTS:
        told = f"a path that begins with {', '.join(ROOTS)} and has at most {MAX_PARTS} parts"
        raise InvalidRequestError("where", f"expected {told}, found {quoted(text[: operator.start()])}")
    return Condition(path, cast(Operator, operator[0]), text[operator.end() :])


def quoted(text: str) -> str:
    """Text of a request's own in an error: short, on one line, and safe on a terminal."""
    return json.dumps(text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…")


def _path(text: str) -> tuple[tuple[str, ...], int]:
    """The parts that a text begins with, and where they end; none where a dot leads nowhere."""
    path: list[str] = []
    at = 0
    while part := _PART.match(text, at):
        path.append(_name(part[0]))
        at = part.end()
        if text[at : at + 1] != ".":
            return tuple(path), at
        at += 1
    return (), at


def _name(part: str) -> str:
    if not part.startswith('"'):
        return part
    try:
        return str(read_json(part, "where"))
    except UnreadableError as error:
        raise InvalidRequestError("where", f"{quoted(part)} is no text in quotes ({error})") from None


def _is_plain(part: str) -> bool:
    return '"' not in part and _PART.fullmatch(part) is not None


@lru_cache(maxsize=256)
def _meanings(text: str) -> tuple[Any, ...]:
    """What a value may stand for; the last is its text."""
    try:
        literal = read_json(text, "where")
    except UnreadableError:
        return (text,)
    return (literal,) if isinstance(literal, str) else (literal, text)


def _same(left: Any, right: Any) -> bool:
    """Equality as in JSON, where true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    try:
        return bool(left == right)
    except RecursionError:
        return False


def _shown(value: Any) -> str | None:
    """The text of a scalar, in which a part is looked for."""
    if isinstance(value, str):
        return value
    return None if isinstance(value, dict | list) else json.dumps(value)


def _walk(value: Any, parts: Sequence[str], left: list[int]) -> Iterator[Any]:
    """The values that a path leads to."""
    if left[0] <= 0:
        return
    left[0] -= 1
    if not parts:
        yield value
    elif isinstance(value, dict):
        if parts[0] in value:
            yield from _walk(value[parts[0]], parts[1:], left)
    elif isinstance(value, list):
        yield from _walk_list(value, parts, left)


def _walk_list(items: list[Any], parts: Sequence[str], left: list[int]) -> Iterator[Any]:
    if parts[0].isdecimal() and parts[0].isascii():
        place = int(parts[0][:9])
        if place < len(items):
            yield from _walk(items[place], parts[1:], left)
        return
    for each in items:
        if isinstance(each, dict):
            yield from _walk(each, parts, left)

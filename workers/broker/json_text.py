"""JSON as it is stored with a job, read as strictly as Node reads it: no NaN, no Infinity, no number that is one. What
is refused is named by its path. Pure.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from tasks.problem import Problem, path

#: Characters of the longest text in which the path of a number is sought: that takes up to fifteen times as long as to
#: parse it, while other jobs wait.
MAX_SOUGHT = 2**17
#: Most tokens that are looked at for the path of what is nested too deeply; data of 4 MB may have millions.
MAX_TOKENS = 50_000
#: Characters of a number that are quoted.
MAX_QUOTED = 40

_LARGEST = sys.float_info.max
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]')


class UnreadableError(ValueError):
    """It is not JSON, or has what Node could not have written; the message names the field and quotes no text of it."""


def read(text: str, name: str, *, max_depth: int | None = None) -> Any:
    """Parse it. Of a name that comes twice in an object, the last counts, as in JavaScript.

    Args:
        name: what the text is, the head of every path: `data`.
        max_depth: how many levels its reader accepts; names them and the path where the parser itself gives up, which
            it does near a thousand.

    Raises:
        UnreadableError: it can't be read.
    """
    try:
        return _decode(text)
    except RecursionError:
        raise UnreadableError(_too_deep(text, name, max_depth)) from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"{name}: not JSON ({error})") from None
    except _OddNumberError as odd:
        raise UnreadableError(_odd_number(text, name, max_depth, odd)) from None
    except ValueError:  # Python's int()
        raise UnreadableError(_odd_number(text, name, max_depth, _too_long("a longer one"))) from None


class _OddNumberError(ValueError):
    """A number that JSON lacks; it also stands in the number's place where that is sought."""

    def __init__(self, found: str, expected: str = "a finite number") -> None:
        super().__init__()
        self.found = found if len(found) <= MAX_QUOTED else found[: MAX_QUOTED - 1] + "…"
        self.expected = expected


def _refuse(constant: str) -> NoReturn:
    raise _OddNumberError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if -_LARGEST <= number <= _LARGEST:
        return number
    raise _OddNumberError(text)


# The parser calls none of these for integers, nor for texts: most jobs cost what they did.
_decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode


# --------------------------------------------------------- where an odd number is


def _too_long(found: str) -> _OddNumberError:
    return _OddNumberError(found, f"an integer of at most {sys.get_int_max_str_digits():,} digits")


def _odd_number(text: str, name: str, max_depth: int | None, met: _OddNumberError) -> str:
    """Parses a text that is not long once more, with placeholders for what it was refused for."""
    if len(text) > MAX_SOUGHT:
        return _said(name, Problem("data", met.expected, met.found))
    try:
        found = _first(_with_placeholders(text))
    except RecursionError:
        return _too_deep(text, name, max_depth)
    except ValueError as error:
        return f"{name}: not JSON ({error})"
    # Not there: a later field of the same name has replaced it, and JavaScript would have refused it nonetheless.
    way, number = found if found is not None else ((), met)
    return _said(name, Problem(path(way), number.expected, number.found))


def _with_placeholders(text: str) -> Any:
    def real(found: str) -> Any:
        try:
            return _finite(found)
        except _OddNumberError as odd:
            return odd

    def integer(found: str) -> Any:
        try:
            return int(found)
        except ValueError:
            return _too_long(f"one of {len(found.lstrip('-')):,}")

    return json.JSONDecoder(parse_constant=_OddNumberError, parse_float=real, parse_int=integer).decode(text)


def _first(value: Any) -> tuple[tuple[str | int, ...], _OddNumberError] | None:
    """The first of them in parsed JSON, and the way there. A loop that keeps one way only, whatever it walks."""
    way: list[str | int] = []
    todo: list[Iterator[tuple[str | int, Any]]] = []
    while not isinstance(value, _OddNumberError):
        if isinstance(value, dict | list):
            todo.append(iter(value.items() if isinstance(value, dict) else enumerate(value)))
            way.append("")
        while (member := next(todo[-1], None) if todo else None) is None:
            if not todo:
                return None
            todo.pop()
            way.pop()
        way[-1], value = member
    return tuple(way), value


# ------------------------------------------------------------------- too many levels


def _too_deep(text: str, name: str, max_depth: int | None) -> str:
    if max_depth is None:
        return f"{name}: nested too deeply"
    return _said(name, Problem(path(_descent(text, max_depth)), f"at most {max_depth:,} levels", "more"))


def _descent(text: str, levels: int) -> tuple[str | int, ...]:
    """The way down that many levels, in a text that has more; empty where they come late in a long text."""
    way: list[str | int] = []  # a place in a list, or a name, as it is written, in an object
    is_name = False
    for match in islice(_TOKEN.finditer(text), MAX_TOKENS):
        match match[0]:
            case "[" | "{" as opened:
                if len(way) == levels:
                    return tuple(_name(part) if isinstance(part, str) else part for part in way)
                way.append(0 if opened == "[" else "")
                is_name = opened == "{"
            case "]" | "}":
                way.pop()
                is_name = False
            case ",":
                last = way[-1]
                is_name = isinstance(last, str)
                way[-1] = "" if isinstance(last, str) else last + 1
            case written if is_name:
                way[-1] = written
                is_name = False
    return ()


def _name(written: str) -> str:
    name: str = json.loads(written)
    return name


def _said(name: str, problem: Problem) -> str:
    return name + str(problem).removeprefix("data")

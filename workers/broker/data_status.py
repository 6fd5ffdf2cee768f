"""`data.status` in the text of a job's data: read and replaced where it stands, every other character left as it is.

Parsing and writing anew would change what others wrote: large numbers, the form of a fraction, a name that comes twice.
Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tasks.status import TaskStatus, status_of

_SPACE = re.compile(r"[ \t\n\r]*")
_value_at = json.JSONDecoder().raw_decode


def stored_status(text: str) -> object:
    """What `data.status` says; None where there is none, or the data are no object or no JSON."""
    said: object = None
    try:
        for name, start, _ in _members(text):
            if name == "status":
                said = _value_at(text, start)[0]  # of a name that comes twice, the last counts
    except (ValueError, RecursionError):
        return None
    return said


def with_status(text: str, status: str, *, add: bool = False) -> str | None:
    """The data with this status; None where they have none, or are no object or no JSON.

    Args:
        status: as it is to be stored.
        add: give one to an object that has none.
    """
    written = json.dumps(status)
    try:
        members = list(_members(text))
    except (ValueError, RecursionError):
        return None
    spans = [(start, end) for name, start, end in members if name == "status"]
    for start, end in reversed(spans):
        text = f"{text[:start]}{written}{text[end:]}"
    if spans:
        return text
    if not add:
        return None
    end = text.rindex("}")
    return f'{text[:end]}{"," if members else ""}"status":{written}{text[end:]}'


def without_stop(text: str) -> str | None:
    """The data of a job that is to run once more: a status that says it is over, or to be stopped, becomes Scheduled.
    None: they need no change.
    """
    status = status_of(stored_status(text))
    if status is None or not (status.asks_to_stop or status.is_final):
        return None
    return with_status(text, TaskStatus.SCHEDULED)


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The names of the object on the top level, and from where to where the value of each stands.

    Raises:
        ValueError: it is no JSON object.
        RecursionError: it is nested too deeply for the parser.
    """
    at = _after(text, _space(text, 0), "{")
    if text[at : at + 1] == "}":
        _end(text, at + 1)
        return
    while True:
        name, at = _value_at(text, at)
        if not isinstance(name, str):
            raise ValueError("no name")
        start = _after(text, _space(text, at), ":")
        _, at = _value_at(text, start)
        yield name, start, at
        at = _space(text, at)
        if text[at : at + 1] == "}":
            _end(text, at + 1)
            return
        at = _after(text, at, ",")


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _after(text: str, at: int, sign: str) -> int:
    """The next place after this sign that is no space."""
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign}")
    return _space(text, at + 1)


def _end(text: str, at: int) -> None:
    if _space(text, at) != len(text):
        raise ValueError("more than an object")

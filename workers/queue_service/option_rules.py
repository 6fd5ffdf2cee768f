"""What may stand in a job's options, by the names under which they are written. Pure.

BullMQ looks at few of them when a job is added, and its scripts break on others half-way or later, in the worker: a
delay beyond what a sorted set's score holds, a deduplication without an id. Names that it does not know are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tasks.ids import MAX_CHARS
from tasks.priority import MAX_PRIORITY
from workers.broker.numbers import MAX_SAFE, is_number
from workers.queue_service.errors import InvalidRequestError

#: The longest delay, ms: ten years. The score of a delayed job is its due time × 4096, which a double must hold.
MAX_DELAY_MS = 315_360_000_000
#: The latest time stamp, ms since the epoch, for the same reason: in the year 2039.
MAX_TIMESTAMP_MS = 2**53 // 4096
#: Characters of a trace context.
MAX_CARRIER = 16_384
#: What unknown options may come to: levels of objects and lists, of which msgpack in Lua reads 16; and values.
MAX_LEVELS, MAX_VALUES = 8, 1_000

#: What belongs to something else than the adding of one job, and what does it.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("parent", "fpof", "cpof", "idof", "rdof"), "children are added by `flow`"),
    **dict.fromkeys(("repeat", "repeatJobKey", "prevMillis"), "schedules are made by `upsert`"),
}
# What BullMQ refuses or takes for an id of its own: integers, and "0:…", the marker of its waiting list.
_RESERVED = re.compile(r"-?[0-9]+|0:.*", re.DOTALL)

Rule: TypeAlias = Callable[[Any], str | None]
"""What was expected instead of a value; None: it is all right."""


def whole(low: int, high: int) -> Rule:
    """A whole number within these bounds."""

    def check(value: Any) -> str | None:
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if right else f"a whole number from {low:,} to {high:,}"

    return check


def number(low: float, high: float) -> Rule:
    """A number within these bounds."""

    def check(value: Any) -> str | None:
        return None if is_number(value) and low <= value <= high else f"a number from {low:,} to {high:,}"

    return check


def truth(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "true or false"


def text(chars: int) -> Rule:
    """A text that Redis can hold, of at most so many characters, and not empty."""

    def check(value: Any) -> str | None:
        right = isinstance(value, str) and 0 < len(value) <= chars and is_unicode(value)
        return None if right else f"a text of 1 to {chars:,} characters"

    return check


def job_id(value: Any) -> str | None:
    """A job's id of its own."""
    if (wrong := text(MAX_CHARS)(value)) is not None:
        return wrong
    return "no integer, and nothing that begins with 0: (BullMQ keeps those)" if _RESERVED.fullmatch(value) else None


def backoff(value: Any) -> str | None:
    """The wait between two attempts."""
    if isinstance(value, Mapping):
        jitter = value.get("jitter", 0)
        known = text(100)(value.get("type")) is None and number(0, MAX_DELAY_MS)(value.get("delay", 0)) is None
        return None if known and number(0, 1)(jitter) is None else "{type, delay in ms, jitter from 0 to 1}"
    return None if number(0, MAX_DELAY_MS)(value) is None else "milliseconds, or {type, delay}"


def keep(value: Any) -> str | None:
    """How long a finished job stays."""
    numbers = [value] if not isinstance(value, Mapping) else [each for each in value.values() if each is not None]
    right = isinstance(value, bool) or all(number(-1, MAX_SAFE)(each) is None for each in numbers)
    return None if right else "true, false, a number, or {age in seconds, count}"


def deduplication(value: Any) -> str | None:
    """BullMQ's own form of it."""
    if not isinstance(value, Mapping) or text(MAX_CHARS)(value.get("id")) is not None:
        return f"an object with an id of 1 to {MAX_CHARS} characters"
    if "ttl" in value and number(0, MAX_DELAY_MS)(value["ttl"]) is not None:
        return f"a ttl from 0 to {MAX_DELAY_MS:,} ms"
    flags = [value[name] for name in ("extend", "replace", "keepLastIfActive") if name in value]
    return None if all(isinstance(flag, bool) for flag in flags) else "true or false for each of its flags"


RULES: Mapping[str, Rule] = {
    "jobId": job_id,
    "attempts": whole(0, 1_000_000_000),
    "delay": number(0, MAX_DELAY_MS),
    "priority": whole(0, MAX_PRIORITY),
    "lifo": truth,
    "timestamp": whole(1, MAX_TIMESTAMP_MS),
    "backoff": backoff,
    "removeOnComplete": keep,
    "removeOnFail": keep,
    "de": deduplication,
    "kl": whole(0, MAX_SAFE),
    "stackTraceLimit": whole(0, MAX_SAFE),
    "sizeLimit": whole(0, MAX_SAFE),
    "tm": text(MAX_CARRIER),
    "omc": truth,
}


def check(name: str, value: Any, field: str) -> None:
    """Return if this option, by the name under which it is written, may have this value.

    Args:
        field: how the caller calls it.

    Raises:
        InvalidRequestError
    """
    if (rule := RULES.get(name)) is not None and (expected := rule(value)) is not None:
        raise InvalidRequestError(field, f"expected {expected}")
    if (rule is None or isinstance(value, Mapping)) and not _is_plain(value):
        limits = f"of at most {MAX_LEVELS} levels and {MAX_VALUES:,} values, numbers up to {MAX_SAFE:,}"
        raise InvalidRequestError(field, f"expected JSON {limits}")


def is_unicode(value: str) -> bool:
    """Whether it can be written as UTF-8: it has no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(value: Any) -> bool:
    """Whether it is JSON that goes through msgpack and Lua unharmed. A loop, bounded."""
    level, count = [value], 0
    for _ in range(MAX_LEVELS + 1):
        below: list[Any] = []
        for each in level:
            match each:
                case Mapping():
                    below += [*each.keys(), *each.values()]
                    if not all(isinstance(key, str) for key in each):
                        return False
                case list() | tuple():
                    below += each
                case str() if is_unicode(each):
                    pass
                case None | bool():
                    pass
                case _ if is_number(each) and abs(each) <= MAX_SAFE:
                    pass
                case _:
                    return False
        count += len(below)
        if not below or count > MAX_VALUES:
            return count <= MAX_VALUES
        level = below
    return False

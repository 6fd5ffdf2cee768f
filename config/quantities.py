"""Durations, sizes and shares as people write them, both ways: 30s, 4MB, 5%.

Writing is exact: parsing what `format_…` gives yields the same number.
A wrong text raises PydanticCustomError, which is a ValueError: "expected …, found …".
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from pydantic_core import PydanticCustomError

#: The longest duration accepted, in seconds: ten years. Timers and Redis expiries cope with it.
MAX_DURATION_S = 315_360_000
#: The shortest duration accepted, in seconds: BullMQ counts in milliseconds.
MIN_DURATION_S = 0.001
#: The largest size accepted, in bytes.
MAX_BYTES = 1 << 50

# Bounded digits: no text, however long, becomes a costly number. [0-9], since \d also takes other scripts'.
NUMBER = r"[0-9]{1,16}(?:\.[0-9]{1,30})?"
DURATION = rf"(?:{NUMBER}(?:d|h|ms|m|s)){{1,5}}"
_SIZES = {"B": 1} | {
    prefix + suffix: 1024 ** (power + 1) for power, prefix in enumerate("KMGT") for suffix in ("B", "iB")
}
# From the longest: a duration names its units in this order, each once.
_SECONDS = {"d": Decimal(86_400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}

#: ECMA 262 sources of the texts, without anchors, for JSON Schema and for longer forms.
SIZE = f"{NUMBER} ?(?:{'|'.join(_SIZES)})?"
SHARE = f"{NUMBER}%?"


def describe(value: Any) -> str:
    """Name a value in an error: text in quotes, at most 60 characters of it, containers by kind only."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= 60 else value[:59] + "…")
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case float():
            return repr(value)
        case int():
            return str(value) if abs(value) < 10**18 else "a huge number"
        case _:
            return f"a {type(value).__name__}"


def unexpected(expected: str, value: Any) -> PydanticCustomError:
    """Build the error "expected …, found …"; `expected` stays readable as the error's context."""
    context = {"expected": expected, "found": describe(value)}
    return PydanticCustomError("expected", "expected {expected}, found {found}", context)


def _number(value: Any, wanted: str) -> Decimal | None:
    """The value of a plain number; None for text. NaN, infinities, booleans and the rest are errors."""
    if isinstance(value, str):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unexpected(wanted, value)
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise unexpected(wanted, value)
    return number


def format_number(number: Decimal | float) -> str:
    """Write a number without exponent and without needless zeros, exactly."""
    text = format(number if isinstance(number, Decimal) else Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _seconds(text: str) -> Decimal | None:
    if re.fullmatch(NUMBER, text):
        return Decimal(text)
    parts = re.findall(rf"({NUMBER})(ms|[dhms])", text) if re.fullmatch(DURATION, text) else []
    units = [unit for _, unit in parts]
    if not units or units != [unit for unit in _SECONDS if unit in units]:
        return None
    return sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal(0))


def parse_duration(value: Any) -> float:
    """Read `30s`, `250ms`, `1h30m`, `2d` or a number of seconds. Returns seconds.

    Raises:
        PydanticCustomError: not a duration, below 1ms or above ten years.
    """
    wanted = "a duration like 30s, 5m or 1h30m"
    seconds = _number(value, wanted)
    if seconds is None:
        seconds = _seconds(value.strip())
    if seconds is None:
        raise unexpected(wanted, value)
    if not MIN_DURATION_S <= float(seconds) <= MAX_DURATION_S:
        raise unexpected("a duration from 1ms to 3650d", value)
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Write seconds as `24h`, `1h30m`, `2.5s` or `250ms`; whole days from two on as `2d`."""
    exact = Decimal(repr(float(seconds)))
    if exact >= 172_800 and exact % 86_400 == 0:
        return f"{format_number(exact // 86_400)}d"
    if 0 < exact < 1:
        return f"{format_number(exact * 1000)}ms"
    hours, rest = divmod(exact, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "m"), (left, "s")]
    return "".join(f"{format_number(number)}{unit}" for number, unit in parts if number) or "0s"


def parse_bytes(value: Any) -> int:
    """Read `512KB`, `4MB`, `1GiB` or a number of bytes. K, M, G and T are powers of 1024. Returns bytes.

    Raises:
        PydanticCustomError: not a size, not a whole number of bytes, below 1 byte or above 1024TB.
    """
    wanted = "a size like 512KB, 4MB or 1GB"
    size = _number(value, wanted)
    if size is None:
        match = re.fullmatch(rf"({NUMBER}) ?({'|'.join(_SIZES)})?", value.strip())
        if match is None:
            raise unexpected(wanted, value)
        size = Decimal(match[1]) * _SIZES[match[2] or "B"]
    if size != size.to_integral_value():
        raise unexpected("a whole number of bytes", value)
    if not 1 <= size <= MAX_BYTES:
        raise unexpected("a size from 1B to 1024TB", value)
    return int(size)


def format_bytes(size: int) -> str:
    """Write a size in the largest unit that divides it: `4MB`, `1536B`."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"


def parse_fraction(value: Any) -> float:
    """Read a share: `5%` or `0.05`. Returns 0 to 1.

    Raises:
        PydanticCustomError: not a share, or outside 0% to 100%.
    """
    wanted = "a share from 0% to 100%, like 5% or 0.05"
    share = _number(value, wanted)
    if share is None:
        text = value.strip()
        if not re.fullmatch(f"{NUMBER}%?", text):
            raise unexpected(wanted, value)
        share = Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)
    if not 0 <= share <= 1:
        raise unexpected(wanted, value)
    return float(share)


def format_fraction(share: float) -> str:
    """Write a share in percent: `5%`."""
    return f"{format_number(Decimal(repr(float(share))) * 100)}%"

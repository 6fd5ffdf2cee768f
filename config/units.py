"""The types of fleet.yaml's human values: Seconds, Bytes, Fraction, Rate, Keep, Backoff.

Each reads the human form and writes JSON that reads back as the same value, because child processes receive
their configuration so. Dumping with `context=HUMAN` writes the numbers in human form too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema
from pydantic_core.core_schema import SerializationInfo

from config.quantities import (
    DURATION,
    MAX_BYTES,
    MAX_DURATION_S,
    MIN_DURATION_S,
    NUMBER,
    SHARE,
    SIZE,
    format_bytes,
    format_duration,
    format_fraction,
    format_number,
    parse_bytes,
    parse_duration,
    parse_fraction,
    unexpected,
)

#: The serialization context under which numbers are written in human form.
HUMAN = {"human": True}
#: The largest count in a rate or a retention.
MAX_COUNT = 1_000_000_000
#: The largest factor of a growing backoff.
MAX_FACTOR = 100

_COUNT = r"[0-9]{1,10}"


def _written(form: Callable[[Any], str]) -> PlainSerializer:
    def write(value: Any, info: SerializationInfo) -> Any:
        return form(value) if info.context == HUMAN and value is not None else value

    return PlainSerializer(write)


def _schema(expected: str, forms: Sequence[dict[str, Any]], examples: list[Any]) -> dict[str, Any]:
    shape = dict(forms[0]) if len(forms) == 1 else {"anyOf": list(forms)}
    return shape | {"examples": examples, "x-expected": expected}


def _described(expected: str, *forms: dict[str, Any], examples: list[Any]) -> WithJsonSchema:
    """Attach a JSON Schema; `x-expected` is what error messages say was expected."""
    return WithJsonSchema(_schema(expected, forms, examples), mode="validation")


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def _whole(value: Any) -> Any:
    """Refuse booleans, which pydantic would take for 0 and 1."""
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return value


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    _written(format_duration),
    _described(
        "a duration like 30s, 5m or 1h30m",
        {"type": "number", "minimum": MIN_DURATION_S, "maximum": MAX_DURATION_S},
        _text(f"{DURATION}|{NUMBER}"),
        examples=["30s", "250ms", "5m", "1h30m", 2.5],
    ),
]
"""A duration in seconds, from 1ms to ten years: `30s`, `250ms`, `1h30m`; a plain number is seconds."""

Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    _written(format_bytes),
    _described(
        "a size like 512KB, 4MB or 1GB",
        {"type": "integer", "minimum": 1, "maximum": MAX_BYTES},
        _text(SIZE),
        examples=["512KB", "4MB", "1GB"],
    ),
]
"""A size in bytes: `512KB`, `4MB`; K, M, G and T are powers of 1024."""

Fraction = Annotated[
    float,
    BeforeValidator(parse_fraction),
    _written(format_fraction),
    _described(
        "a share from 0% to 100%, like 5% or 0.05",
        {"type": "number", "minimum": 0, "maximum": 1},
        _text(SHARE),
        examples=["5%", 0.05],
    ),
]
"""A share from 0 to 1: `5%` or `0.05`."""

WHOLE = BeforeValidator(_whole)
"""Put last in an `Annotated[int, …]`: `true` is not 1."""


class _Text:
    """A value whose one form, in fleet.yaml and in JSON, is a text."""

    expected: ClassVar[str]
    forms: ClassVar[tuple[dict[str, Any], ...]]
    examples: ClassVar[list[Any]]

    @classmethod
    def parse(cls, value: Any) -> Self:
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=text)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _schema(cls.expected, cls.forms, list(cls.examples))


def _count(text: str, expected: str, value: Any, least: int = 1) -> int:
    count = int(text)
    if not least <= count <= MAX_COUNT:
        raise unexpected(f"{expected}, its count from {least} to {MAX_COUNT}", value)
    return count


@dataclass(frozen=True)
class Rate(_Text):
    """So many in so long: `500/1m`."""

    count: int
    per_s: float
    """The span in seconds."""

    expected = "a rate like 500/1m"
    forms = (_text(f"{_COUNT}/{DURATION}"),)
    examples: ClassVar[list[Any]] = ["500/1m", "10/1s"]

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read `500/1m`.

        Raises:
            PydanticCustomError: not a rate, or a count outside 1 to a thousand million.
        """
        if isinstance(value, cls):
            return value
        match = re.fullmatch(rf"({_COUNT})/({DURATION})", value.strip()) if isinstance(value, str) else None
        if match is None:
            raise unexpected(cls.expected, value)
        return cls(count=_count(match[1], cls.expected, value), per_s=parse_duration(match[2]))

    def __str__(self) -> str:
        return f"{self.count}/{format_duration(self.per_s)}"


@dataclass(frozen=True)
class Keep(_Text):
    """How long, and how many, finished jobs stay: `24h/5000`, `24h`, `5000`, `forever`, `none`."""

    age_s: int | None
    """Seconds; None: any age."""
    count: int | None
    """None: any number. 0: none is kept."""

    expected = "a retention like 24h/5000, 24h, 5000, forever or none"
    forms = (
        _text(f"forever|none|{_COUNT}|{DURATION}|{DURATION}/{_COUNT}"),
        {"type": "integer", "minimum": 0, "maximum": MAX_COUNT},
    )
    examples: ClassVar[list[Any]] = ["24h/5000", "24h", 5000, "forever", "none"]

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read `24h/5000` (at most a day old and 5000 in number), one half of it, `forever` or `none`.

        Raises:
            PydanticCustomError: none of these, an age that is not whole seconds, or a count above a thousand
                million.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
            return cls(None, value)
        text = value.strip() if isinstance(value, str) else ""
        if text in ("forever", "none"):
            return cls(None, None if text == "forever" else 0)
        if re.fullmatch(_COUNT, text):
            return cls(None, _count(text, cls.expected, value, least=0))
        match = re.fullmatch(rf"({DURATION})(?:/({_COUNT}))?", text)
        if match is None:
            raise unexpected(cls.expected, value)
        age = parse_duration(match[1])
        if not age.is_integer():
            raise unexpected(f"{cls.expected}, its age in whole seconds", value)
        return cls(int(age), _count(match[2], cls.expected, value) if match[2] else None)

    def __str__(self) -> str:
        if self.count == 0:
            return "none"
        parts = ([format_duration(self.age_s)] if self.age_s else []) + ([str(self.count)] if self.count else [])
        return "/".join(parts) or "forever"

    def to_bullmq(self) -> bool | dict[str, int]:
        """What BullMQ's `removeOnComplete` and `removeOnFail` take: false keeps all, true keeps none."""
        if self.count == 0:
            return True
        limits = {"age": self.age_s, "count": self.count}
        return {name: limit for name, limit in limits.items() if limit is not None} or False


@dataclass(frozen=True)
class Backoff(_Text):
    """The wait before each retry: `10s` always, `2s x2` doubling, `2s x2 max 5m` up to that, `none`."""

    delay_s: float
    """The first wait in seconds; 0: at once."""
    factor: float
    """Each wait is the one before times this; 1: always the same."""
    max_s: float | None
    """The longest wait in seconds. None: no bound."""

    expected = "a backoff like 10s, 2s x2, 2s x2 max 5m or none"
    forms = (
        _text(f"none|{NUMBER}|{DURATION}(?: x{NUMBER}(?: max {DURATION})?)?"),
        {"type": "number", "minimum": MIN_DURATION_S, "maximum": MAX_DURATION_S},
    )
    examples: ClassVar[list[Any]] = ["10s", "2s x2", "2s x2 max 5m", "none"]

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read `10s`, `2s x2`, `2s x2 max 5m` or `none`; a plain number is seconds.

        Raises:
            PydanticCustomError: none of these, a factor outside 1 to 100, or a longest wait below the first.
        """
        if isinstance(value, cls):
            return value
        if value == "none":
            return cls(0.0, 1.0, None)
        text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if re.fullmatch(NUMBER, text):
            return cls(parse_duration(value), 1.0, None)
        match = re.fullmatch(rf"({DURATION})(?: x({NUMBER})(?: max ({DURATION}))?)?", text)
        if match is None:
            raise unexpected(cls.expected, value)
        delay, factor = parse_duration(match[1]), float(match[2] or 1)
        longest = parse_duration(match[3]) if match[3] else None
        if not 1 <= factor <= MAX_FACTOR:
            raise unexpected(f"{cls.expected}, its factor from 1 to {MAX_FACTOR}", value)
        if longest is not None and longest < delay:
            raise unexpected(f"{cls.expected}, its longest wait not below the first", value)
        return cls(delay, factor, longest)

    def __str__(self) -> str:
        if not self.delay_s:
            return "none"
        growth = f" x{format_number(self.factor)}" if self.factor != 1 or self.max_s is not None else ""
        return format_duration(self.delay_s) + growth + (f" max {format_duration(self.max_s)}" if self.max_s else "")

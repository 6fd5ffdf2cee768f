"""What a run may say of its progress, as BullMQ stores it. Pure."""

from __future__ import annotations

import json
from typing import Any

from workers.broker.numbers import is_number

#: Bytes of the largest progress, as JSON: it is in the job's row, which every fetch reads, and in an event.
MAX_PROGRESS = 64 * 1024

_TEXTS = ("status", "currentStep")


def check(value: Any) -> None:
    """Accept a finite number, or an object that JSON can carry, by habit
    `{"status": "running", "progress": 0.4, "currentStep": "fetch"}`: what it has of these three is a text, a number
    and a text, or null.

    Raises:
        TypeError: it is neither, or one of the three is of another type.
        ValueError: it is not JSON, not finite, or larger than MAX_PROGRESS.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not is_number(value):
            raise ValueError("progress: expected a finite number")
        return
    if not isinstance(value, dict):
        raise TypeError(
            f"progress: expected a number or an object like "
            f'{{"status": …, "progress": …, "currentStep": …}}, found {type(value).__name__}'
        )
    for name in _TEXTS:
        if not isinstance(value.get(name), str | None):
            raise TypeError(f"progress.{name}: expected a text, found {type(value[name]).__name__}")
    number = value.get("progress")
    if number is not None and not is_number(number):
        raise TypeError(f"progress.progress: expected a finite number, found {type(number).__name__}")
    _check_json(value)


def _check_json(value: dict[Any, Any]) -> None:
    if not all(isinstance(key, str) for key in value):
        raise TypeError("progress: expected texts as keys")
    try:
        size = len(json.dumps(value, allow_nan=False))
    except RecursionError:
        raise ValueError("progress: nested too deeply for JSON") from None
    if size > MAX_PROGRESS:
        raise ValueError(f"progress: {size:,} bytes, more than the {MAX_PROGRESS:,} that are stored")

"""Numbers that a producer wrote into a job's options or row: of any size, and not always numbers."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

#: The largest whole number that JavaScript, Lua and Redis agree on; BullMQ's own numbers stay far below it.
MAX_SAFE = 2**53 - 1


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number that a float can hold; true and false are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of 309 digits or more
        return False


def whole(value: float, *, low: int = 0, high: int = MAX_SAFE) -> int:
    """A finite number as a whole one within these bounds; a fraction is rounded up, as "at most 2.5" allows a third."""
    return math.ceil(min(max(value, low), high))

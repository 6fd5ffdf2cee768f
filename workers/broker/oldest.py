"""How long the oldest job waits for its first start, by the rows of the jobs at the ends of what waits. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from workers.broker.numbers import is_number, whole

#: The scores of delayed jobs are due times in ms, times this, plus a counter (BullMQ's getDelayedScore).
DELAYED_SCORE = 0x1000
#: The first moment of 2018, ms since the epoch, the year of BullMQ's first release: an earlier time is no job's. Else
#: one row with seconds in place of milliseconds would make its queue half a century late.
EARLIEST_MS = 1_514_764_800_000


def ages_s(rows: Iterable[Sequence[Any]], now_ms: int) -> list[float]:
    """Of jobs that wait for their first start, since when they have been due, seconds.

    Args:
        rows: timestamp, options and time of the last start of each.
    """
    dues = (_first_due(*row) for row in rows)
    return [max(0.0, (now_ms - due) / 1000) for due in dues if due is not None]


def due_age_s(earliest: Sequence[Any], now_ms: int) -> float | None:
    """How long ago a delayed job was due, seconds.

    Args:
        earliest: its id and its score, or nothing.
    """
    score = number((*earliest, None, None)[1])
    if score is None or score / DELAYED_SCORE < EARLIEST_MS:
        return None
    return max(0.0, (now_ms - score / DELAYED_SCORE) / 1000)


def number(text: Any) -> float | None:
    """A finite number that is stored as text; None: it is none."""
    try:
        found = float(text)
    except (TypeError, ValueError):
        return None
    return found if is_number(found) else None


def _first_due(timestamp: str | None, opts: str | None, processed_on: str | None) -> float | None:
    """When a job was first to be started, ms; None where it was started before, since nothing tells since when it
    waits again, or where the row does not say.
    """
    added = number(timestamp)
    if added is None or added < EARLIEST_MS or processed_on:
        return None
    try:
        options: Any = json.loads(opts or "{}")
    except (ValueError, RecursionError):
        options = {}
    delay = options.get("delay") if isinstance(options, dict) else None
    # the row's own `delay` is set to 0 when its time has come
    return added + (whole(delay) if is_number(delay) else 0)

"""When a cron expression comes round: read by croniter, as the `bullmq` package does it, but by the wall clock of its
zone. No I/O.

The package hands croniter times with a zone of the standard library, which croniter 2 takes for one of pytz's: around a
change to or from daylight saving time it then answers with the hour, and at midnight with the day before. So here it
never sees a zone. Where the clock jumps, it is as with Node's cron-parser, since every process that starts a run plans
the next one, each by its own library:

- a time that is left out by the clock is as much later: 2:30 becomes 3:30;
- a time that comes twice is meant the first time, unless it runs every hour.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

#: How often a time that croniter has passed over is looked for, at most.
MAX_BACK = 31
#: How much of an expression, and of what is wrong with it, is quoted.
QUOTED = 100
_SECOND = timedelta(seconds=1)
# What croniter reads and cron-parser does not, or not in each version: a draw, and two of the names.
_OURS_ALONE = re.compile(r"\b[RH]\b|@annually|@midnight", re.IGNORECASE)
# The last Friday of the month is 5L for cron-parser and L5 for croniter.
_LAST = re.compile(r"(?<=\s)([0-7])L\s*$", re.IGNORECASE)


def following(after_ms: int, repeat: Mapping[str, Any]) -> int | None:
    """When a scheduler runs next, after this time, both ms since the epoch: BullMQ's repeat strategy. None: it has no
    `pattern`, or does not come round before its `endDate`.

    Args:
        repeat: BullMQ's options: `pattern`, `tz` (UTC without one), `startDate`, `endDate`, `immediately`.

    Raises:
        ValueError: no cron expression, or one that never comes round.
        zoneinfo.ZoneInfoNotFoundError: no time zone.
    """
    pattern = repeat.get("pattern")
    if not pattern:
        return None
    if repeat.get("immediately"):
        return round(time.time() * 1000)
    start, end = moment_ms(repeat.get("startDate")), moment_ms(repeat.get("endDate"))
    base = after_ms if start is None else max(after_ms, start)
    found = next_time(str(pattern), str(repeat.get("tz") or "UTC"), base)
    return None if end is not None and found > end else found


def next_time(pattern: str, zone: str, after_ms: int) -> int:
    """The first time after this one, ms since the epoch.

    Raises: as `following`.
    """
    place, pattern = ZoneInfo(zone), _LAST.sub(r"L\1", pattern)
    after = datetime.fromtimestamp(after_ms / 1000, tz=UTC)
    found = _hourly(pattern, place, after) if _every_hour(pattern) else _daily(pattern, place, after)
    return round(found.timestamp() * 1000)


def problem(pattern: str, zone: str, after_ms: int) -> str | None:
    """Why nobody should declare such an expression, in words that follow "expected"; None: it may be.

    Args:
        after_ms: it must come round after this time.
    """
    quoted = repr(pattern if len(pattern) <= QUOTED else pattern[: QUOTED - 1] + "…")
    if _OURS_ALONE.search(pattern) or not pattern.isascii():
        return f"a cron expression that Node's library reads as well, found {quoted}"
    try:
        next_time(pattern, zone, after_ms)
    except CroniterBadDateError:
        return f"a cron expression that comes round, found {quoted}"
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # croniter's own, whatever went wrong
        why = str(error).splitlines()[-1] if str(error) else type(error).__name__
        fields = "minute, hour, day, month and day of the week"
        return f"a cron expression, {fields}, found {quoted} ({why[:QUOTED]})"
    return None


def moment_ms(value: Any) -> int | None:
    """A date among repeat options, as Node's `new Date` reads it: ms since the epoch, or ISO 8601. None: none."""
    if isinstance(value, bool) or value in (None, ""):
        return None
    if isinstance(value, int | float):
        return int(value)
    try:
        if re.fullmatch(r"-?\d{1,17}", value):
            return int(value)
        moment = datetime.fromisoformat(value)
        return round((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _every_hour(pattern: str) -> bool:
    fields, _ = croniter.expand(pattern, second_at_beginning=True)
    return bool(fields[1] == ["*"])


def _daily(pattern: str, place: ZoneInfo, after: datetime) -> datetime:
    """By the wall clock: the first time that it shows what is asked for."""
    wall = after.astimezone(place).replace(tzinfo=None)
    while True:
        wall = _next(pattern, wall)
        # Of a time that comes twice the first; of one that is left out what the clock would have shown.
        found = wall.replace(tzinfo=place).astimezone(UTC)
        if found > after:
            return found


def _hourly(pattern: str, place: ZoneInfo, after: datetime) -> datetime:
    """By the time that passes: where the clock jumps, it is looked from there on."""
    offset = _offset(place, after)
    wall = (after + offset).replace(tzinfo=None)
    while True:
        found = (_next(pattern, wall) - offset).replace(tzinfo=UTC)
        if _offset(place, found) == offset:
            return found
        after = _change(place, after, found)
        offset = _offset(place, after)
        wall = (after + offset).replace(tzinfo=None) - _SECOND


def _next(pattern: str, wall: datetime) -> datetime:
    """The next time of a clock that never jumps.

    croniter counts days of a month that it is about to leave into the next one: of the 1st and the 30th it passes over
    the 1st of March. Backwards it does not.
    """
    found: datetime = croniter(pattern, wall, second_at_beginning=True).get_next(datetime)
    for _ in range(MAX_BACK):
        before: datetime = croniter(pattern, found, second_at_beginning=True).get_prev(datetime)
        if before <= wall:
            break
        found = before
    return found


def _offset(place: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(place).utcoffset() or timedelta()


def _change(place: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The moment between these two, whose offsets differ, at which it changes; to the second."""
    before = _offset(place, low)
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        middle = middle if middle > low else low + _SECOND
        if _offset(place, middle) == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)

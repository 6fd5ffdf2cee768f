"""The `schedules` of fleet.yaml: tasks that are added again and again, by cron or at an interval."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from config.quantities import unexpected
from config.rung_section import refuse
from config.section import Section
from config.units import WHOLE, Seconds

#: What a schedule's name may be: no colon, since BullMQ 6 takes an id with four of them for a repeatable job of old.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
#: Highest priority in BullMQ (Job.PRIORITY_LIMIT).
MAX_PRIORITY = 2_097_152
#: How late a run may start where `grace` does not say, seconds.
GRACE_S = 60.0
#: Options of BullMQ's that a schedule has its own keys for, or that BullMQ sets for each run.
TAKEN = {
    "repeat": "cron, every, tz, limit, start and end",
    "priority": "priority",
    "attempts": "attempts",
    **dict.fromkeys(("jobId", "repeatJobKey", "prevMillis", "timestamp", "delay"), "none: it is of one run"),
    **dict.fromkeys(("deduplication", "debounce", "de", "parent"), "none: BullMQ's schedulers don't know it"),
    "fleet": "missed and grace",
}

_NO_ZONES = frozenset({"", "localtime", "posixrules", "Factory"})
# What `fromisoformat` would take besides, such as week dates, nobody means.
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})?)?", re.ASCII)


def _zone(value: str) -> str:
    try:
        if value not in _NO_ZONES and ZoneInfo(value):
            return value
    except Exception:  # noqa: S110 - a path, a folder, a file that is no zone: each has an error of its own
        pass
    raise unexpected("a time zone like Europe/Berlin or UTC", value)


def _moment(value: str) -> str:
    try:
        if _MOMENT.fullmatch(value) and datetime.fromisoformat(value):
            return value
    except ValueError:  # the 30th of February
        pass
    raise unexpected("a time like 2027-06-30, 2027-06-30T12:00 or 2027-06-30T12:00:00Z", value)


def _interval(value: float) -> float:
    if value < 0.1:
        raise unexpected("a duration of at least 100ms, since each run is a job", value)
    return value


Moment = Annotated[str, AfterValidator(_moment)]


class ScheduleConfig(Section):
    """A task that is added again and again. It is a job scheduler of BullMQ's, which Node sees and may edit."""

    queue: str
    """The queue that its jobs go to."""
    cron: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """When it runs: minute, hour, day, month, day of the week, with seconds before them where there are six. Either
    this or `every`."""
    every: Annotated[Seconds, AfterValidator(_interval)] | None = None
    """The time from one run to the next, whatever the time of day. The first is at once, or at `start`."""
    tz: Annotated[str, Field(max_length=64), AfterValidator(_zone)] | None = None
    """The time zone of `cron`, and of a `start` and `end` that name none: Europe/Berlin. Defaults to UTC."""
    limit: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = None
    """How many runs there are in all. Defaults to no limit."""
    start: Moment | None = None
    """Before it there is no run: 2027-06-30 or 2027-06-30T12:00. Defaults to at once."""
    end: Moment | None = None
    """After it no run is planned. Defaults to never."""
    missed: Literal["run_once", "skip"] = "run_once"
    """What becomes of runs whose time has passed while nothing worked. run_once: all of them together are one late run.
    skip: none; it goes on with the next. Defaults to run_once."""
    grace: Seconds | None = None
    """With `missed: skip`, how late a run may start before it counts as missed. Defaults to 1m."""
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The name of its jobs. Defaults to the queue's, as Node's producers have it."""
    data: dict[str, Any] = Field(default_factory=dict, repr=False)
    """The task, as Node's producers write it. `type` defaults to the queue's name, `id` to the id of each run's
    job."""
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY), WHOLE] | None = None
    """Of its jobs: the lowest comes first, and 0 before all. Defaults to none."""
    attempts: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = None
    """Attempts of each run in all. Defaults to what the queue's `retry` says."""
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Further options of BullMQ's, as Node writes them: `{lifo: true}`. Defaults to those of the queue."""

    @property
    def zone(self) -> str:
        """`tz`, or its default."""
        return self.tz or "UTC"

    @property
    def grace_ms(self) -> int:
        """`grace`, or its default."""
        return round(1000 * (GRACE_S if self.grace is None else self.grace))

    @property
    def start_ms(self) -> int | None:
        """`start`, ms since the epoch."""
        return self._ms(self.start)

    @property
    def end_ms(self) -> int | None:
        """`end`, ms since the epoch."""
        return self._ms(self.end)

    def _ms(self, moment: str | None) -> int | None:
        if moment is None:
            return None
        found = datetime.fromisoformat(moment)
        found = found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(self.zone))
        return round(found.astimezone(UTC).timestamp() * 1000)

    @model_validator(mode="after")
    def _fits(self) -> ScheduleConfig:
        found: list[tuple[tuple[str | int, ...], str]] = []
        if (self.cron is None) == (self.every is None):
            wrong = "found neither" if self.cron is None else "found both; null takes one of them back"
            found.append((("cron",), f"expected either cron or every, {wrong}"))
        if self.tz is not None and self.cron is None and self.start is None and self.end is None:
            found.append((("tz",), "expected it beside cron, start or end alone: an interval knows no time zone"))
        if self.grace is not None and self.missed != "skip":
            found.append((("grace",), "expected it beside missed: skip alone"))
        if self.start_ms is not None and self.end_ms is not None and self.start_ms >= self.end_ms:
            found.append((("end",), "expected a time after start"))
        found += [
            (("options", name), f"expected no {name} here: a schedule's key for it is {TAKEN[name]}")
            for name in sorted(self.options.keys() & TAKEN.keys())
        ]
        refuse("ScheduleConfig", self, found)
        return self

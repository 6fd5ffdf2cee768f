"""A schedule, as it is asked for and as it is shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from config.schedule_section import GRACE_S, ScheduleConfig
from workers.broker import cron
from workers.broker.schedule_view import OWN_OPTION, StoredSchedule

Missed: TypeAlias = Literal["run_once", "skip"]
Origin: TypeAlias = Literal["declared", "changed", "other"]
"""Declared in a fleet.yaml and as it was written; declared, and changed by hand since; made by somebody else."""
State: TypeAlias = Literal["planned", "ended", "stopped"]
"""Its next run is planned; it has had its last one; its next run is lost, and nothing will plan another."""


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """What is asked for: the `schedules` of fleet.yaml say what each means."""

    cron: str | None = None
    every_ms: int | None = None
    tz: str | None = None
    """None: UTC."""
    limit: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    missed: Missed = "run_once"
    grace_ms: int = round(GRACE_S * 1000)
    name: str | None = None
    """None: the queue's."""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    priority: int | None = None
    attempts: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, entry: ScheduleConfig) -> ScheduleSpec:
        """What an entry of fleet.yaml asks for."""
        return cls(
            cron=entry.cron,
            every_ms=None if entry.every is None else round(entry.every * 1000),
            tz=entry.tz,
            limit=entry.limit,
            start_ms=entry.start_ms,
            end_ms=entry.end_ms,
            missed=entry.missed,
            grace_ms=entry.grace_ms,
            name=entry.name,
            data=entry.data,
            priority=entry.priority,
            attempts=entry.attempts,
            options=entry.options,
        )

    @property
    def repeat(self) -> dict[str, Any]:
        """Its times in BullMQ's repeat options. The zone is always said: without one each process of Node's would take
        its own.
        """
        found: dict[str, Any] = {"limit": self.limit, "startDate": self.start_ms, "endDate": self.end_ms}
        if self.every_ms is not None:
            found["every"] = self.every_ms
        if self.cron is not None:
            found |= {"pattern": self.cron, "tz": self.tz or "UTC"}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One that is there, whoever made it."""

    stored: StoredSchedule
    origin: Origin
    state: State

    @property
    def id(self) -> str:
        """Unique within its queue."""
        return self.stored.id

    def json(self) -> dict[str, Any]:
        """For output, in the words of BullMQ's getJobScheduler and beside them ours."""
        stored, (missed, grace_ms) = self.stored, self.stored.missed
        options = {name: value for name, value in stored.options.items() if name != OWN_OPTION}
        return {
            "key": stored.id,
            "queueName": stored.queue,
            "name": stored.name,
            "pattern": stored.cron,
            "every": stored.every_ms,
            "tz": stored.tz,
            "limit": stored.limit,
            "startDate": stored.start_ms,
            "endDate": stored.end_ms,
            "next": stored.next_ms if self.state == "planned" else None,
            "iterationCount": stored.runs,
            "template": {"data": stored.data, "opts": options},
            "missed": missed,
            "graceMs": grace_ms if missed == "skip" else None,
            "origin": self.origin,
            "state": self.state,
            "problems": list(stored.problems),
        }


def state_of(stored: StoredSchedule, now_ms: int) -> State:
    """Whether it goes on. A run plans the next one as it starts, so where none is planned, none will be."""
    if stored.next_run == "planned" or stored.is_legacy:
        return "planned"
    return "ended" if has_ended(stored.repeat, stored.runs, stored.next_ms, now_ms) else "stopped"


def has_ended(repeat: Mapping[str, Any], runs: int, last_ms: int, now_ms: int) -> bool:
    """Whether a schedule has had all its runs.

    Args:
        repeat: BullMQ's repeat options.
        runs: how many there were.
        last_ms: when the last one was due.
    """
    limit, end = repeat.get("limit"), repeat.get("endDate")
    if limit is not None and runs >= limit:
        return True
    if end is None:
        return False
    try:
        return bool(end < now_ms or ("pattern" in repeat and cron.following(last_ms, repeat) is None))
    except (ValueError, LookupError, ArithmeticError):  # an expression of Node's own
        return False

"""A job scheduler as BullMQ keeps it in Redis, read tolerantly: Node and its users write there too. Pure.

Source: npm bullmq 5 and 6, `JobScheduler.transformSchedulerData`; `storeJobScheduler` in addJobScheduler-11.lua.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from workers.broker.json_text import UnreadableError, read
from workers.broker.numbers import is_number, whole

#: The fields of its row that say what it is; the others say how far it is. A script reads them in this order.
STATIC = ("name", "tz", "pattern", "every", "limit", "startDate", "endDate", "data", "opts")
#: Where in the options it is said what becomes of missed runs: BullMQ passes over it, and takes it to each run's job.
OWN_OPTION = "fleet"

NextRun: TypeAlias = Literal["planned", "over", "gone"]
"""What is known of the job of its next run: it waits or runs; it has ended; there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """One of them, as it was read."""

    queue: str
    id: str
    version: str
    """Of what it is, to be compared when it is written."""
    next_ms: int
    """When its next run is due, or its last one was; ms since the epoch."""
    next_run: NextRun
    name: str = ""
    """Of its jobs."""
    cron: str | None = None
    every_ms: int | None = None
    tz: str | None = None
    limit: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    data: Any = None
    """The data of its jobs; None where they could not be read, or are too large to be."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of its jobs, by the names under which they are stored."""
    runs: int = 0
    """How many were planned so far, the next one included."""
    is_legacy: bool = False
    """A repeatable job of old, which BullMQ keeps beside the schedulers."""
    problems: tuple[str, ...] = ()
    """What could not be read."""

    @property
    def missed(self) -> tuple[Literal["run_once", "skip"], int]:
        """What becomes of missed runs where they are run by us, and how late one may be, ms; see `own_option`."""
        return missed_of(self.options)

    @property
    def repeat(self) -> dict[str, Any]:
        """Its times in BullMQ's repeat options."""
        found = {"pattern": self.cron, "every": self.every_ms, "tz": self.tz, "limit": self.limit}
        found |= {"startDate": self.start_ms, "endDate": self.end_ms}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def fingerprint(self) -> str:
        """The same for the same times, name, data and options, however they are written."""
        return fingerprint(self.name, self.repeat, self.data, self.options)


def own_option(missed: Literal["run_once", "skip"], grace_ms: int) -> dict[str, Any]:
    """What stands in a schedule's options for `missed`; nothing for BullMQ's own way, which is run_once."""
    return {} if missed == "run_once" else {OWN_OPTION: {"missed": missed, "graceMs": grace_ms}}


def missed_of(options: Mapping[str, Any]) -> tuple[Literal["run_once", "skip"], int]:
    """What `own_option` wrote; tolerant, since anybody may have written there."""
    said = options.get(OWN_OPTION)
    grace = said.get("graceMs") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or said.get("missed") != "skip" or not is_number(grace) or grace < 0:
        return "run_once", 0
    return "skip", whole(grace)


def fingerprint(name: str, repeat: Mapping[str, Any], data: Any, options: Mapping[str, Any]) -> str:
    """Of what a scheduler is; see StoredSchedule.fingerprint.

    Lua has written the options: it knows no whole numbers, no nulls, and no empty list beside an empty object.
    """
    seen = {"name": name, "repeat": dict(repeat), "data": data or {}, "options": _as_lua(options)}
    text = json.dumps(seen, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_lua(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _as_lua(below) for key, below in value.items() if below is not None}
        case list() | tuple():
            return [_as_lua(below) for below in value] or {}
        case bool() | str() | None:
            return value
    return f"{value or 0:.14g}" if is_number(value) else str(value)


def parse(queue: str, schedule_id: str, reply: Sequence[Any]) -> StoredSchedule | None:
    """The reply of the script that reads one (schedule_scripts.py). None: there is none of this id. Never raises."""
    if not reply:
        return None
    next_ms, version, run, run_opts, count, *rest = reply
    values = dict(zip(STATIC, rest, strict=False))
    problems: list[str] = []
    options = _json(values.get("opts"), "opts", problems)
    if not isinstance(options, dict):
        problems.append("opts: no object")
        options = {}
    return StoredSchedule(
        queue=queue,
        id=schedule_id,
        version=str(version),
        next_ms=_int(next_ms) or 0,
        next_run=run if run in ("planned", "over") else "gone",
        name=values.get("name") or "",
        cron=values.get("pattern") or None,
        every_ms=_int(values.get("every")),
        tz=values.get("tz") or None,
        limit=_int(values.get("limit")),
        start_ms=_int(values.get("startDate")),
        end_ms=_int(values.get("endDate")),
        data=_json(values.get("data"), "data", problems),
        options=options,
        runs=_planned(run_opts, count),
        is_legacy=count is None,
        problems=tuple(problems),
    )


def _planned(run_opts: str | None, count: str | None) -> int:
    """By the job of the next run, since the scheduler's own count goes on when its times are changed; else by that."""
    options = _json(run_opts, "opts", [])
    repeat = options.get("repeat") if isinstance(options, dict) else None
    said = repeat.get("count") if isinstance(repeat, dict) else None
    return whole(said) if is_number(said) else _int(count) or 0


def _int(text: Any) -> int | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return int(number) if is_number(number) else None


def _json(text: str | None, name: str, problems: list[str]) -> Any:
    if not text:
        return {}
    try:
        return read(text, name)
    except UnreadableError as error:
        problems.append(str(error))
        return None

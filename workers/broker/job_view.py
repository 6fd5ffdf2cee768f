"""One job as it is shown: BullMQ's row, read tolerantly. A row that nobody should have written is shown with what is
wrong with it, and never an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.ids import task_id_of
from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json
from workers.broker.numbers import is_number, whole

#: Characters of a row's own text that a problem quotes.
MAX_QUOTED = 40
#: Digits of a number that is below MAX_SAFE for sure.
MAX_DIGITS = 15
#: What BullMQ calls an option in Node, by what it is stored as. Source: npm bullmq, `optsDecodeMap` in classes/job.js.
OPTIONS = {
    "de": "deduplication",
    "fpof": "failParentOnFailure",
    "cpof": "continueParentOnFailure",
    "idof": "ignoreDependencyOnFailure",
    "kl": "keepLogs",
    "rdof": "removeDependencyOnFailure",
}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_FINISHED = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class JobKey:
    """Another job: a parent or a child, perhaps of another queue."""

    key: str
    """Its key in Redis."""
    queue: str | None
    """None: the key is not under this fleet's prefix."""
    id: str

    @classmethod
    def of(cls, key: str, prefix: str) -> JobKey:
        """What a key names. Job ids may have colons, and queue names can't: BullMQ refuses them."""
        if not key.startswith(f"{prefix}:"):
            return cls(key, None, key.rpartition(":")[2])
        queue, _, job_id = key.removeprefix(f"{prefix}:").partition(":")
        return cls(key, queue, job_id)

    def json(self) -> dict[str, Any]:
        """For output."""
        return {"key": self.key, "queueName": self.queue, "id": self.id}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job. Times are ms since the epoch; None where the row does not say."""

    queue: str
    id: str
    name: str = ""
    task_id: str = ""
    """See tasks.ids.task_id_of."""
    task_type: str = ""
    """`data.type`, whatever it says; empty where there is none."""
    state: str = "unknown"
    """In the words of BullMQ's getState: waiting, prioritized, active, delayed, waiting-children, completed, failed;
    and `paused`, the list of a queue that BullMQ before 6 had paused. `unknown`: the row is there, and in none of them.
    """
    data: Any = None
    """Parsed; what is no JSON, or is cut, as the text that it is."""
    opts: Mapping[str, Any] = field(default_factory=dict)
    """With the names that they have in Node, see OPTIONS."""
    progress: Any = 0
    priority: int = 0
    delay_ms: int = 0
    """The delay that it was last put off by."""
    attempts_made: int = 0
    attempts_started: int = 0
    attempts: int = 1
    """How many it has in all, by its options."""
    stalled: int = 0
    """How often its worker was lost."""
    added_ms: int | None = None
    due_ms: int | None = None
    """When it may start: of a delayed job its place in the queue, else when it was added plus its first delay."""
    processed_ms: int | None = None
    """When its last run started."""
    finished_ms: int | None = None
    failed_reason: str | None = None
    deferred_failure: str | None = None
    """It is to fail at its next start, for this reason: it stalled too often, or a child failed."""
    stacktrace: tuple[str, ...] = ()
    """One for each failed attempt that is kept, the oldest first."""
    returnvalue: Any = None
    parent: JobKey | None = None
    processed_by: str | None = None
    """The name of the worker that ran it last."""
    deduplication_id: str | None = None
    schedule_id: str | None = None
    """The job scheduler that made it."""
    trace_id: str | None = None
    """32 hex digits: of the trace in which it was added."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Fields of which only the beginning is here, as text, and their size as stored, bytes."""
    problems: tuple[str, ...] = ()
    """What could not be read."""
    raw: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The row as stored, cut as `cut` says."""

    @property
    def since_ms(self) -> int | None:
        """When it came to be as it is, as far as the row tells: finished, else started, else added."""
        if self.state in _FINISHED:
            return self.finished_ms or self.added_ms
        if self.state == "active":
            return self.processed_ms or self.added_ms
        return self.added_ms

    def shortened(self, limit: int) -> JobView:
        """The same with data and result of at most about so many bytes each, for lists: a larger one becomes the
        beginning of its text, and is named in `cut`.
        """
        cut = dict(self.cut)
        short: dict[str, Any] = {}
        for name in ("data", "returnvalue"):
            text = self.raw.get(name, "")
            if len(text) <= limit:
                continue
            short[name] = text[:limit]
            cut.setdefault(name, len(text.encode("utf-8", "surrogatepass")))
        return replace(self, **short, cut=cut) if short else self

    def json(self) -> dict[str, Any]:
        """For output, in the words of BullMQ for Node; what is not known is null."""
        return {
            "id": self.id,
            "name": self.name,
            "queueName": self.queue,
            "state": self.state,
            "taskId": self.task_id,
            "taskType": self.task_type,
            "data": self.data,
            "opts": dict(self.opts),
            "progress": self.progress,
            "priority": self.priority,
            "delay": self.delay_ms,
            "attemptsMade": self.attempts_made,
            "attemptsStarted": self.attempts_started,
            "attempts": self.attempts,
            "stalledCounter": self.stalled,
            "timestamp": self.added_ms,
            "dueOn": self.due_ms,
            "processedOn": self.processed_ms,
            "finishedOn": self.finished_ms,
            "failedReason": self.failed_reason,
            "deferredFailure": self.deferred_failure,
            "stacktrace": list(self.stacktrace),
            "returnvalue": self.returnvalue,
            "parent": None if self.parent is None else self.parent.json(),
            "processedBy": self.processed_by,
            "deduplicationId": self.deduplication_id,
            "repeatJobKey": self.schedule_id,
            "traceId": self.trace_id,
            "truncated": dict(self.cut),
            "problems": list(self.problems),
        }


def view(
    queue: str,
    job_id: str,
    row: Mapping[str, str],
    *,
    state: str = "unknown",
    prefix: str = "bull",
    due_ms: int | None = None,
    cut: Mapping[str, int] | None = None,
) -> JobView:
    """Read a row. Never raises: what can't be read is listed in `problems`.

    Args:
        prefix: BullMQ's key prefix, for the queue of a parent.
        due_ms: of a delayed job, by its place in the queue.
        cut: fields of the row that are not whole, and their size in bytes.
    """
    reading = _Reading(row, cut or {})
    data = reading.json("data", {})
    opts = reading.options()
    delay = opts.get("delay")
    added = reading.time("timestamp")
    if due_ms is None and added is not None:
        due_ms = added + (whole(delay) if is_number(delay) else 0)
    attempts = opts.get("attempts")
    parsed = "data" not in reading.unparsed
    return JobView(
        queue=queue,
        id=job_id,
        name=row.get("name", ""),
        task_id=task_id_of(job_id, data if parsed else None),
        task_type=_text(data.get("type")) if parsed and isinstance(data, dict) else "",
        state=state,
        data=data,
        opts=opts,
        progress=reading.json("progress", 0),
        priority=reading.number("priority"),
        delay_ms=reading.number("delay"),
        attempts_made=reading.number("attemptsMade" if "attemptsMade" in row else "atm"),
        attempts_started=reading.number("ats"),
        attempts=whole(attempts, low=1) if is_number(attempts) else 1,
        stalled=reading.number("stc"),
        added_ms=added,
        due_ms=due_ms,
        processed_ms=reading.time("processedOn"),
        finished_ms=reading.time("finishedOn"),
        failed_reason=row.get("failedReason") or None,
        deferred_failure=row.get("defa") or None,
        stacktrace=reading.stacks(),
        returnvalue=reading.json("returnvalue", None),
        parent=reading.parent(prefix),
        processed_by=row.get("pb") or None,
        deduplication_id=row.get("deid") or None,
        schedule_id=row.get("rjk") or None,
        trace_id=trace_id(opts),
        cut=dict(reading.cut),
        problems=tuple(reading.problems),
        raw=row,
    )


def trace_id(opts: Mapping[str, Any]) -> str | None:
    """The trace that a job was added in, by its options with Node's names: `telemetry.metadata` is the carrier as
    JSON, of which we read `traceparent` (W3C Trace Context).
    """
    telemetry = opts.get("telemetry")
    carrier = telemetry.get("metadata") if isinstance(telemetry, Mapping) else None
    if not isinstance(carrier, str):
        return None
    try:
        told = read_json(carrier, "tm")
    except UnreadableError:
        return None
    parent = told.get("traceparent") if isinstance(told, dict) else None
    match = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
    return match[1] if match and match[1].strip("0") else None


class _Reading:
    """One row while it is read."""

    def __init__(self, row: Mapping[str, str], cut: Mapping[str, int]) -> None:
        self.row = row
        self.cut = cut
        self.problems: list[str] = []
        self.unparsed: set[str] = set()

    def json(self, name: str, default: Any) -> Any:
        """A field's value; its text where it is no JSON or not whole."""
        text = self.row.get(name)
        if not text:
            return default
        if name in self.cut:
            self.unparsed.add(name)
            return text
        try:
            return read_json(text, name)
        except UnreadableError as error:
            self.problems.append(str(error))
            self.unparsed.add(name)
            return text

    def options(self) -> dict[str, Any]:
        read = self.json("opts", {})
        if not isinstance(read, dict):
            if "opts" not in self.unparsed:
                self.problems.append("opts: expected an object")
            return {}
        found: dict[str, Any] = read
        opts = {OPTIONS.get(name, name): value for name, value in found.items() if name not in ("tm", "omc")}
        for name, long in (("tm", "metadata"), ("omc", "omitContext")):
            if name in found:
                telemetry = opts.get("telemetry")
                opts["telemetry"] = {**(telemetry if isinstance(telemetry, dict) else {}), long: found[name]}
        return opts

    def number(self, name: str) -> int:
        text = self.row.get(name)
        return 0 if not text else self._whole(name, text) or 0

    def time(self, name: str) -> int | None:
        text = self.row.get(name)
        return self._whole(name, text) if text else None

    def _whole(self, name: str, text: str) -> int | None:
        if len(text) <= MAX_DIGITS and text.isdecimal():  # all but hostile ones; lists read many
            return int(text)
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if is_number(number):
            return whole(number)
        self.problems.append(f"{name}: expected a number, found {json.dumps(text[:MAX_QUOTED])}")
        return None

    def stacks(self) -> tuple[str, ...]:
        found = self.json("stacktrace", [])
        if "stacktrace" in self.unparsed:
            return (str(found),)
        if not isinstance(found, list):
            self.problems.append("stacktrace: expected a list")
            return ()
        return tuple(each if isinstance(each, str) else json.dumps(each) for each in found)

    def parent(self, prefix: str) -> JobKey | None:
        found = self.json("parent", None)
        if found is None:
            key = self.row.get("parentKey")
            return JobKey.of(key, prefix) if key else None
        job_id = found.get("id") if isinstance(found, dict) else None
        queue_key = found.get("queueKey") if isinstance(found, dict) else None
        if not isinstance(job_id, str) or not isinstance(queue_key, str):
            self.problems.append("parent: expected an object with id and queueKey")
            return None
        inside = queue_key.startswith(f"{prefix}:")
        return JobKey(f"{queue_key}:{job_id}", queue_key.removeprefix(f"{prefix}:") if inside else None, job_id)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

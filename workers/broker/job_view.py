"""One job as it is shown: BullMQ's row, read tolerantly. A row that nobody should have written is shown with what is
wrong with it, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.ids import task_id_of
from workers.broker.job_row import OPTIONS, JobKey, JobRow, trace_id
from workers.broker.numbers import is_number, whole

__all__ = ["OPTIONS", "JobKey", "JobView", "trace_id", "view"]

_FINISHED = ("completed", "failed")


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
    reading = JobRow(row, cut or {})
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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

"""What the board knows: numbers for each queue and the last lines, from the events. No I/O, bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, TypeAlias

from workers.broker.events import (
    ChildDied,
    ChildReady,
    ChildRecycled,
    ChildStartFailed,
    ConnectionChanged,
    Event,
    JobActive,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobProgress,
    JobRetrying,
    JobRung,
    JobStalled,
    LoopBlocked,
    QueueDrained,
    QueuePaused,
    WorkerError,
    WorkerState,
)
from workers.telemetry.logs import visible
from workers.telemetry.redaction import redact_text

Tone: TypeAlias = Literal["start", "good", "wait", "bad", "note"]

KEPT_LINES = 50
KEPT_DURATIONS = 200  # of the last jobs, for the median
KEPT_FINISHES = 10_000  # of the last minute, for the rate
LONGEST_REASON = 200  # characters
LONGEST_ID = 60  # characters
RATE_WINDOW_S = 60.0
NOTEWORTHY_WAIT_S = 1.0
QUEUES = 100  # more are counted as one
COLUMNS = ("queue", "slots", "completed", "retried", "failed", "per min", "p50")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened, safe to print: no control characters, secrets hidden."""

    at: float
    """Seconds since the epoch."""
    tone: Tone
    queue: str
    text: str


@dataclass(slots=True)
class QueueRow:
    """A queue's numbers since the start."""

    slots: int = 0
    busy: int = 0
    completed: int = 0
    retried: int = 0
    failed: int = 0
    durations_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_DURATIONS))
    """Of the last completed jobs."""
    finishes: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_FINISHES))
    """When the last jobs completed or failed for good."""

    def per_minute(self, now: float) -> int:
        """Jobs completed or failed for good within the last minute."""
        while self.finishes and self.finishes[0] < now - RATE_WINDOW_S:
            self.finishes.popleft()
        return len(self.finishes)

    def p50_s(self) -> float | None:
        """The median duration of the last completed jobs; None before the first."""
        return median(self.durations_s) if self.durations_s else None


class BoardState:
    """Takes events and notes, and keeps what the board shows.

    Args:
        clock: seconds since the epoch. Defaults to `time.time`.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.rows: dict[str, QueueRow] = {}
        self.lines: deque[Line] = deque(maxlen=KEPT_LINES)
        self._clock = clock

    def note(self, text: str) -> Line:
        """Keep something that belongs to no queue."""
        return self._keep("note", "", text)

    def apply(self, event: Event) -> Line | None:
        """Count the event; the line it is worth, or None."""
        self._count(event)
        said = describe(event)
        return self._keep(said[0], event.queue, said[1]) if said else None

    def numbers(self) -> list[tuple[str, ...]]:
        """A row for each queue, in the order of COLUMNS."""
        now = self._clock()
        return [
            (
                name,
                f"{row.busy}/{row.slots}",
                str(row.completed),
                str(row.retried),
                str(row.failed),
                str(row.per_minute(now)),
                "–" if (p50_s := row.p50_s()) is None else span(p50_s),
            )
            for name, row in self.rows.items()
        ]

    def _keep(self, tone: Tone, queue: str, text: str) -> Line:
        line = Line(self._clock(), tone, visible(queue), visible(text))
        self.lines.append(line)
        return line

    def _count(self, event: Event) -> None:
        row = self._row(event.queue)
        match event:
            case WorkerState():
                row.slots = 0 if event.state == "closed" else event.slots
                row.busy = 0 if event.state == "closed" else row.busy
            case JobActive():
                row.busy += 1
            case JobProgress() | JobRung():
                pass
            case JobEvent():
                row.busy = max(0, row.busy - 1)
        match event:
            case JobCompleted():
                row.completed += 1
                row.durations_s.append(event.duration_s)
                row.finishes.append(self._clock())
            case JobFailed():
                row.failed += 1
                row.finishes.append(self._clock())
            case JobRetrying():
                row.retried += 1

    def _row(self, queue: str) -> QueueRow:
        name = visible(queue)
        if name not in self.rows and len(self.rows) >= QUEUES:
            name = "others"
        return self.rows.setdefault(name, QueueRow())


def describe(event: Event) -> tuple[Tone, str] | None:
    """What to say about an event. Ids and reasons come from strangers; `visible` must be applied before printing."""
    match event:
        case JobEvent():
            said = _describe_job(event)
            return said and (said[0], f"{_shortened(event.job_id)} {said[1]}")
        case QueueDrained() | ChildReady() | ChildStartFailed() | ChildDied() | ChildRecycled():
            return None
        case QueuePaused():
            return "bad" if event.paused else "note", "paused for everyone" if event.paused else "paused no longer"
        case JobStalled():
            return "bad", f"{_shortened(event.job_id)} stalled, back in the queue"
        case LoopBlocked():
            return "bad", f"the event loop was blocked for {span(event.blocked_s)} by {_shortened(event.job_id)}"
        case WorkerState():
            return "note", f"{event.slots} slots {event.state}"
        case WorkerError():
            return "bad", f"error in {event.where}: {_reason(f'{type(event.error).__name__}: {event.error}')}"
        case ConnectionChanged():
            state = "connected to Redis" if event.up else "lost the connection to Redis"
            return ("good" if event.up else "bad"), f"{state}: {_reason(event.detail)}"


def _describe_job(event: JobEvent) -> tuple[Tone, str] | None:
    match event:
        case JobActive():
            attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
            late = event.wait_s is not None and event.wait_s >= NOTEWORTHY_WAIT_S
            waited = f" after waiting {span(event.wait_s or 0)}" if late else ""
            return "start", f"started{attempt}{waited}"
        case JobCompleted():
            return "good", f"completed in {span(event.duration_s)}"
        case JobRung():
            return "wait", f"takes {span(event.after_s)} so far: {event.rung}"
        case JobRetrying():
            again = f"again in {span(event.delay_s)}"
            return "wait", f"attempt {event.attempt} failed, {again}: {_reason(event.reason)}"
        case JobFailed():
            return "bad", f"failed: {_reason(event.reason)}"
        case JobDelayed():
            return "wait", f"put off for {span(event.delay_s)}: {_reason(event.reason)}"
        case JobHandedBack():
            return "wait", f"handed back: {_reason(event.reason)}"
        case JobLost():
            return "bad", f"lost its lock: {_reason(event.reason)}"
    return None


def span(seconds: float) -> str:
    """A length of time for people: `12 ms`, `2.1 s`, `3 min 5 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _shortened(job_id: str) -> str:
    return job_id if len(job_id) <= LONGEST_ID else job_id[: LONGEST_ID - 1] + "…"


def _reason(text: str) -> str:
    return redact_text(text, LONGEST_REASON)

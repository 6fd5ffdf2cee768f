"""The events of jobs and workers as log lines: one line an event, with no payload and no result in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from workers.broker.events import (
    ChildDied,
    ChildEvent,
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
    RungName,
    WorkerError,
    WorkerState,
)
from workers.broker.memory import JobMemory
from workers.telemetry.redaction import redact_text

#: The name of the logger that these lines come from.
LOGGER = "fleet.jobs"
#: Characters of a reason that a line shows.
MAX_REASON = 500
#: Seconds in which the same worker error shows its stack only once: an outage repeats it with every retry.
STACK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Line:
    """What is said about an event."""

    level: int
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


#: What its ladder does to a run that takes long.
_RUNGS: dict[RungName, str] = {
    "warn": "job takes long",
    "checkpoint": "job takes long; it is asked to save a checkpoint",
    "pause": "job takes long; it is asked to set itself aside",
    "stop": "job's time is up; it is asked to end",
    "cancel": "job's time is up; it is cancelled",
    "kill": "job's time is up; it is ended by force, where its isolation can do that",
}
_PAUSED = {
    True: (
        logging.WARNING,
        "queue is paused for everyone: no job starts until queue.resume() is called, in Node or here",
    ),
    False: (logging.INFO, "queue is paused no longer"),
}


def line_for(event: Event) -> Line:
    """The line for an event. Pure."""
    match event:
        case JobEvent():
            level, text, fields = _job(event)
            return Line(level, text, {**_identity(event), **fields, **_memory(event.memory)})
        case QueuePaused():
            level, text = _PAUSED[event.paused]
            return Line(level, text, {"queue": event.queue})
        case QueueDrained():
            return Line(logging.DEBUG, "queue drained", {"queue": event.queue})
        case JobStalled():
            return Line(logging.WARNING, "job stalled", {"queue": event.queue, "job_id": event.job_id})
        case LoopBlocked():
            return _blocked(event)
        case WorkerState():
            return Line(logging.INFO, f"worker {event.state}", {"queue": event.queue, "slots": event.slots})
        case WorkerError():
            fields = {"queue": event.queue, "where": event.where, "error": type(event.error).__name__}
            fields |= {"job_id": event.job_id} if event.job_id else {}
            return Line(logging.ERROR, "worker error", {**fields, "reason": _reason(_message(event.error))})
        case ConnectionChanged():
            return _connection(event)
        case ChildReady() | ChildStartFailed() | ChildDied() | ChildRecycled():
            return _child(event)


def _connection(event: ConnectionChanged) -> Line:
    fields = {"queue": event.queue, "detail": _reason(event.detail)}
    if event.up:
        return Line(logging.INFO, "connected to Redis", fields)
    return Line(logging.WARNING, "connection to Redis lost", fields)


def _child(event: ChildEvent) -> Line:
    """For who looks closely: what it means for jobs is told with them, and a failing start by a worker error."""
    match event:
        case ChildReady():
            fields = {"queue": event.queue, "took_s": round(event.took_s, 3)}
            return Line(logging.DEBUG, "child process is ready", fields)
        case ChildStartFailed():
            return Line(logging.DEBUG, "child process could not be started", {"queue": event.queue})
        case ChildDied():
            return Line(logging.DEBUG, "child process died", {"queue": event.queue, "reason": event.reason})
        case ChildRecycled():
            return Line(logging.DEBUG, "child process is replaced", {"queue": event.queue, "reason": event.reason})


def _blocked(event: LoopBlocked) -> Line:
    fields: dict[str, Any] = {"queue": event.queue, "task_type": event.task_type}
    if event.job_id:
        fields["job_id"] = event.job_id
    if event.trace_id:
        fields["trace_id"] = event.trace_id
    said = "the event loop was blocked" if event.over else "the event loop is blocked"
    return Line(logging.WARNING, said, {**fields, "blocked_s": round(event.blocked_s, 3), "stack": event.stack})


def _job(event: JobEvent) -> tuple[int, str, dict[str, Any]]:
    match event:
        case JobActive():
            return logging.DEBUG, "job started", {} if event.wait_s is None else {"wait_s": round(event.wait_s, 3)}
        case JobProgress():  # what the processor says may hold anything: not shown
            return logging.DEBUG, "job progress", {}
        case JobCompleted():
            return logging.INFO, "job completed", _ran(event.duration_s)
        case JobFailed():
            fields = {**_ran(event.duration_s, event.reason), "error": event.error, "failure": event.failure}
            return logging.ERROR, "job failed", fields
        case JobRetrying():
            fields = {**_ran(event.duration_s, event.reason), "error": event.error, "failure": event.failure}
            return logging.WARNING, "job failed, retrying", {**fields, "delay_s": round(event.delay_s, 3)}
        case JobDelayed():
            fields = _ran(event.duration_s, event.reason)
            return logging.INFO, "job delayed", {**fields, "delay_s": round(event.delay_s, 3)}
        case JobHandedBack():
            return logging.INFO, "job handed back", _ran(event.duration_s, event.reason)
        case JobRung():
            fields = {"rung": event.rung, "after_s": round(event.after_s, 3), "attempt_of_rung": event.attempt_of_rung}
            return logging.WARNING, _RUNGS[event.rung], fields
        case JobLost():
            return logging.WARNING, "job lock lost", _ran(event.duration_s, event.reason)
    return logging.INFO, type(event).__name__, {}  # an event newer than this file


def _identity(event: JobEvent) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "queue": event.queue,
        "job_id": event.job_id,
        "job_name": event.job_name,
        "task_type": event.task_type,
        "attempt": event.attempt,
    }
    if event.trace_id:
        fields["trace_id"] = event.trace_id
    return fields


def _ran(duration_s: float, reason: str | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = {"duration_s": round(duration_s, 3)}
    if reason is not None:
        fields["reason"] = _reason(reason)
    return fields


def _memory(memory: JobMemory | None) -> dict[str, Any]:
    """Of the process that ran this job alone, in MB (of 1024² bytes); nothing where it shared one."""
    if memory is None:
        return {}
    sizes = {"before": memory.before, "after": memory.after, "delta": memory.delta, "peak": memory.peak}
    return {f"memory_{name}_mb": round(size / 1024**2, 3) for name, size in sizes.items() if size is not None}


def _reason(text: str) -> str:
    return redact_text(text, MAX_REASON)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


class JobLog:
    """A listener that writes the line of each event.

    Args:
        clock: monotonic seconds. Defaults to `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = structlog.stdlib.get_logger(LOGGER)
        self._clock = clock
        self._stack_shown: dict[tuple[str, str, str], float] = {}

    def __call__(self, event: Event) -> None:
        line = line_for(event)
        if not logging.getLogger(LOGGER).isEnabledFor(line.level):
            return
        fields = dict(line.fields)
        if isinstance(event, WorkerError) and self._stack_is_due(event):
            fields["exc_info"] = event.error
        self._log.log(line.level, line.event, **fields)

    def _stack_is_due(self, event: WorkerError) -> bool:
        kind = (event.queue, event.where, type(event.error).__name__)
        now = self._clock()
        shown = self._stack_shown.get(kind)
        if shown is not None and now - shown < STACK_EVERY_S:
            return False
        self._stack_shown = {k: at for k, at in self._stack_shown.items() if now - at < STACK_EVERY_S}
        self._stack_shown[kind] = now
        return True

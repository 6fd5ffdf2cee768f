"""What a worker tells: of its jobs, of what went wrong, and whether Redis answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from opentelemetry.trace import Span

from workers.broker import spans
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.events import (
    ConnectionChanged,
    Event,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
    WorkerError,
)

Emit: TypeAlias = Callable[[Event], None]


class Reports:
    """One worker's events.

    Args:
        queue: its name.
        emit: takes each event.
        types: the known task types, the bounded set for labels.
        is_connection_error: whether an error says that Redis can't be reached.
    """

    def __init__(
        self, queue: str, emit: Emit, types: frozenset[str], is_connection_error: Callable[[Exception], bool]
    ) -> None:
        self._queue = queue
        self._types = types
        self._is_connection_error = is_connection_error
        self.emit = emit
        self.is_up = True
        """Redis answered when it was last asked."""

    def about(self, job: Activation, span: Span) -> dict[str, Any]:
        """The fields that all events of a job share."""
        return {
            "queue": self._queue,
            "job_id": job.id,
            "job_name": job.name,
            "task_type": job.type if job.type in self._types else "unknown",
            "attempt": job.attempts_made + 1,
            "trace_id": spans.trace_id(span),
        }

    def error(self, error: BaseException, where: str, job_id: str = "") -> None:
        """Tell what went wrong and where; a lost connection also as such, once."""
        self.emit(WorkerError(queue=self._queue, where=where, error=error, job_id=job_id))
        if self.is_up and isinstance(error, Exception) and self._is_connection_error(error):
            self.is_up = False
            self.emit(ConnectionChanged(queue=self._queue, up=False, detail=str(error)))

    def up(self) -> None:
        """Redis has answered: tell it where it did not before."""
        if not self.is_up:
            self.is_up = True
            self.emit(ConnectionChanged(queue=self._queue, up=True, detail=""))


def ended(ending: Ending, about: dict[str, Any], duration_s: float) -> JobEvent:
    """The event that an ending is told with, once Redis has it; `about` holds what all events of the job share."""
    match ending:
        case Completed(result=result):
            return JobCompleted(**about, duration_s=duration_s, result=result)
        case Failed(reason=reason, error=error, failure=failure):
            return JobFailed(**about, duration_s=duration_s, reason=reason, error=error, failure=failure)
        case Retry(reason=reason, error=error, delay_ms=delay, failure=failure):
            return JobRetrying(
                **about, duration_s=duration_s, reason=reason, error=error, delay_s=delay / 1000, failure=failure
            )
        case Delayed(reason=reason, delay_ms=delay):
            return JobDelayed(**about, duration_s=duration_s, reason=reason, delay_s=delay / 1000)
        case HandedBack(reason=reason):
            return JobHandedBack(**about, duration_s=duration_s, reason=reason)
        case Lost(reason=reason):
            return JobLost(**about, duration_s=duration_s, reason=reason)

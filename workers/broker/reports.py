"""The event that an ending is reported with, once Redis has it."""

from __future__ import annotations

from typing import Any

from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.events import (
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
)


def ended(ending: Ending, about: dict[str, Any], duration_s: float) -> JobEvent:
    """Translate; `about` holds the fields that all job events share."""
    match ending:
        case Completed(result=result):
            return JobCompleted(**about, duration_s=duration_s, result=result)
        case Failed(reason=reason, error=error):
            return JobFailed(**about, duration_s=duration_s, reason=reason, error=error)
        case Retry(reason=reason, error=error, delay_ms=delay):
            return JobRetrying(**about, duration_s=duration_s, reason=reason, error=error, delay_s=delay / 1000)
        case Delayed(reason=reason, delay_ms=delay):
            return JobDelayed(**about, duration_s=duration_s, reason=reason, delay_s=delay / 1000)
        case HandedBack(reason=reason):
            return JobHandedBack(**about, duration_s=duration_s, reason=reason)
        case Lost(reason=reason):
            return JobLost(**about, duration_s=duration_s, reason=reason)

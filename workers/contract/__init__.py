"""All that a queue module may import besides `tasks` and the clients: plain types, no I/O."""

from __future__ import annotations

from workers.contract.context import JobContext, StopRequest
from workers.contract.errors import JobError, PermanentError, TransientError
from workers.contract.module import BackoffStrategy, Processor, QueueModule, Services, Verdict, retry_all
from workers.contract.outcomes import Cancel, HandBack, Outcome, RateLimited, Requeue, Snooze, WaitForChildren
from workers.contract.service import Health, Service

__all__ = [
    "BackoffStrategy",
    "Cancel",
    "HandBack",
    "Health",
    "JobContext",
    "JobError",
    "Outcome",
    "PermanentError",
    "Processor",
    "QueueModule",
    "RateLimited",
    "Requeue",
    "Service",
    "Services",
    "Snooze",
    "StopRequest",
    "TransientError",
    "Verdict",
    "WaitForChildren",
    "retry_all",
]

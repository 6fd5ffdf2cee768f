"""All that a queue module may import besides `tasks` and the clients: plain types, no I/O."""

from __future__ import annotations

from workers.contract.context import JobContext, Progress, StopRequest
from workers.contract.effect import Effect, Ledger, UnavailableError
from workers.contract.errors import (
    BudgetError,
    CrashedError,
    FailureClass,
    JobError,
    PermanentError,
    RateLimitError,
    TransientError,
    UserError,
)
from workers.contract.failure import FinalFailure, OnFailed
from workers.contract.module import (
    BackoffStrategy,
    Isolation,
    Processor,
    QueueModule,
    Services,
    SyncProcessor,
    Verdict,
    retry_all,
)
from workers.contract.outcomes import (
    Cancel,
    HandBack,
    Outcome,
    Park,
    RateLimited,
    Requeue,
    Snooze,
    TimeUp,
    WaitForChildren,
)
from workers.contract.service import Health, Service
from workers.contract.sync_context import SyncEffect, SyncJobContext

__all__ = [
    "BackoffStrategy",
    "BudgetError",
    "Cancel",
    "CrashedError",
    "Effect",
    "FailureClass",
    "FinalFailure",
    "HandBack",
    "Health",
    "Isolation",
    "JobContext",
    "JobError",
    "Ledger",
    "OnFailed",
    "Outcome",
    "Park",
    "PermanentError",
    "Processor",
    "Progress",
    "QueueModule",
    "RateLimitError",
    "RateLimited",
    "Requeue",
    "Service",
    "Services",
    "Snooze",
    "StopRequest",
    "SyncEffect",
    "SyncJobContext",
    "SyncProcessor",
    "TimeUp",
    "TransientError",
    "UnavailableError",
    "UserError",
    "Verdict",
    "WaitForChildren",
    "retry_all",
]

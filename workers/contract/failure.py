"""What a module may learn of a job of its own that has failed for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from tasks.base import Task
from workers.contract.errors import FailureClass

T = TypeVar("T", bound=Task)


@dataclass(frozen=True, kw_only=True)
class FinalFailure:
    """A job has failed, Redis has it, and no attempt follows."""

    queue: str
    job_id: str
    reason: str
    """BullMQ's failedReason. For operators: unless the class is `user` it may hold internals and what others wrote, so
    it is not for the job's owner."""
    failure: FailureClass
    attempts: int
    """Attempts that were made, the last one included."""
    at: float
    """Seconds since the epoch."""


OnFailed: TypeAlias = Callable[[T, FinalFailure], Task | None]
"""(the job's task, its failure) → the task that follows; None: nothing does."""

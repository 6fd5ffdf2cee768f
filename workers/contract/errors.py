"""Failures that a processor may raise to say whether trying again can help.

JobError
├── TransientError   may work later; optionally not before `retry_after_s`
└── PermanentError   will never work; the job fails at once, whatever attempts it has left

Any other exception goes through the module's `classify`.
"""

from __future__ import annotations


class JobError(Exception):
    """The job failed."""


class TransientError(JobError):
    """The job failed, and may succeed later.

    Args:
        message: what went wrong; ends up in BullMQ's `failedReason`, so no secrets.
        retry_after_s: seconds before which a retry is pointless. None: the queue's backoff decides.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(JobError):
    """The job failed and can never succeed: BullMQ's UnrecoverableError."""

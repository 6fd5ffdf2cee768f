"""Failures that a processor may raise to say what kind of failure it is, and whether trying again can help.

JobError
├── TransientError    may work later; optionally not before `retry_after_s`
│   ├── RateLimitError  somebody upstream takes no more for now: 429
│   └── CrashedError    what ran the job died; made by the host
└── PermanentError    will never work; the job fails at once, whatever attempts it has left
    ├── BudgetError     its owner has no credits left for it
    └── UserError       its owner asked for what can't be done

Any other exception goes through the module's `classify`. What follows a failure is decided in
`workers/runtime/retry.py`.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

FailureClass: TypeAlias = Literal["transient", "permanent", "rate-limited", "budget", "user", "crashed", "timed-out"]
"""What kind of failure it was: counted by it, shown in logs and traces; a bounded set, safe as a metric label.

- transient: it may work later. What nobody has classified too, programming errors included: a release may mend them.
- permanent: it never will: invalid data, an answer that stays the same.
- rate-limited: somebody upstream takes no more for now.
- budget: its owner has nothing left for it.
- user: its owner asked for what can't be done; the reason is fit to be shown to that person.
- crashed: what ran it died or would have died: a signal, `sys.exit`, no memory left.
- timed-out: it did not end in its time.

After permanent, budget and user no attempt follows, whatever attempts are left.
"""


class JobError(Exception):
    """The job failed, and may succeed later. Subclasses may set `failure`."""

    failure: ClassVar[FailureClass] = "transient"


class TransientError(JobError):
    """The job failed, and may succeed later.

    Args:
        message: what went wrong; ends up in BullMQ's `failedReason`, so no secrets.
        retry_after_s: seconds before which a retry is pointless. None: the queue's backoff decides.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitError(TransientError):
    """The attempt failed because somebody upstream takes no more for now. The outcome RateLimited, which costs no
    attempt and holds the whole queue back, is for limits that every job of the queue shares.
    """

    failure: ClassVar[FailureClass] = "rate-limited"


class CrashedError(TransientError):
    """What ran the job died: its process was killed or ended. Raised by the host, not by modules."""

    failure: ClassVar[FailureClass] = "crashed"


class PermanentError(JobError):
    """The job failed and can never succeed: BullMQ's UnrecoverableError."""

    failure: ClassVar[FailureClass] = "permanent"


class BudgetError(PermanentError):
    """The job can't go on: its owner has no credits or allowance left for it."""

    failure: ClassVar[FailureClass] = "budget"


class UserError(PermanentError):
    """The job can't be done as its owner asked for it: fit to be shown to that person."""

    failure: ClassVar[FailureClass] = "user"

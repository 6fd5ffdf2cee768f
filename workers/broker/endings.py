"""How one execution of a job ends. Decided above (runtime), carried out here (backend.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

#: The `error` of a job that somebody has cancelled; no exception is called so.
CANCELLED = "CancelledByRequest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The work is done: moveToFinished, target `completed`."""

    result: Any
    """Any JSON value; stored as BullMQ's `returnvalue`."""
    text: str | None = None
    """`result` as it is stored, once that is known (result.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job is over and failed: moveToFinished, target `failed`."""

    reason: str
    error: str
    """The exception's class or another short, bounded name: safe as a metric label."""
    stack: str = ""
    failure: str = "permanent"
    """The kind of failure, see contract.FailureClass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """This attempt failed, another follows: moveToDelayed after `delay_ms`, retryJob when that is 0."""

    reason: str
    error: str
    delay_ms: int
    stack: str = ""
    failure: str = "transient"
    """The kind of failure, see contract.FailureClass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delayed:
    """Run again after `delay_ms`, the attempt not spent: moveToDelayed with skipAttempt. The next three differ in how;
    what is left of them in the job's row is the same.
    """

    delay_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimited(Delayed):
    """Delayed, and the whole queue with it: the limiter's key for `delay_ms`, the job to the front of `wait`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued(Delayed):
    """Run again at once, the attempt not spent: the front of `wait`, as Node's `job.moveToWait`."""

    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingChildren(Delayed):
    """Run again when the job's children are done, the attempt not spent: moveToWaitingChildren. Where none is pending,
    after `delay_ms`.
    """

    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack:
    """Interrupted, not failed: the front of `wait`, with attempt and start count unspent."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The lock is no longer ours: write nothing, someone else has the job."""

    reason: str


Ending: TypeAlias = Completed | Failed | Retry | Delayed | HandedBack | Lost

"""What a processor may return instead of a result. Returned, not raised: they are no failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Snooze:
    """Run this job again after `delay_s` seconds; the attempt is not spent (moveToDelayed, skipAttempt)."""

    delay_s: float
    reason: str


@dataclass(frozen=True)
class Park:
    """Put this job aside until somebody promotes it (resumes its task), or `wake_s` seconds have passed; the attempt is
    not spent. Defaults to 30 days.
    """

    reason: str
    wake_s: float = 30 * 86_400.0


@dataclass(frozen=True)
class Cancel:
    """End this job as failed, without a retry (moveToFailed, unrecoverable)."""

    reason: str


@dataclass(frozen=True)
class RateLimited:
    """Somebody upstream takes no more for `delay_s` seconds (a 429): this job waits at the front of `wait`, its attempt
    not spent, and the workers of this queue start no other one before (Node's `rateLimit` and RateLimitError).
    """

    delay_s: float
    reason: str = "rate limited"


@dataclass(frozen=True)
class WaitForChildren:
    """Run this job again when all children that were added to it are done, at once where none is pending; the attempt
    is not spent (moveToWaitingChildren). With a failed child it fails, unless that child's options say otherwise.
    """

    reason: str = "waits for its children"


@dataclass(frozen=True)
class Requeue:
    """Run this job again at once, before the others that wait; the attempt is not spent (Node's WaitingError). For work
    in steps whose state is in the job's data or elsewhere. After 100 starts each further one waits a second, so that
    a job that forgets to go on can't occupy its worker.
    """

    reason: str = "goes on with its next step"


@dataclass(frozen=True)
class HandBack:
    """Put this job back at the front of `wait`, nothing spent. Made by `StopRequest.outcome()` alone."""

    reason: str


@dataclass(frozen=True)
class TimeUp:
    """The run ended since its time was up: the attempt failed as timed out. Made by `StopRequest.outcome()` alone."""

    reason: str


Outcome: TypeAlias = Snooze | Park | Cancel | RateLimited | WaitForChildren | Requeue | HandBack | TimeUp

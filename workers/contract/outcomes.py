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
class Cancel:
    """End this job as failed, without a retry (moveToFailed, unrecoverable)."""

    reason: str


@dataclass(frozen=True)
class HandBack:
    """Put this job back at the front of `wait`, nothing spent. Made by `StopRequest.outcome()` alone."""

    reason: str


Outcome: TypeAlias = Snooze | Cancel | HandBack

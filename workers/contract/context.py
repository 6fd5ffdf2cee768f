"""What a processor may ask of its host. Arguments and replies are JSON, so the calls can cross a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from workers.contract.outcomes import HandBack, Outcome, Snooze


@dataclass(frozen=True)
class StopRequest:
    """Why the host wants the slot back, and until when it waits.

    `return stop.outcome()` is always a right answer.
    """

    kind: Literal["drain", "deadline", "lock_lost"]
    reason: str
    by: float
    """The host's monotonic clock (`time.monotonic()`, seconds) at which it stops waiting."""

    def outcome(self) -> Outcome:
        """The outcome that fits: handed back on drain and on a lost lock, snoozed otherwise."""
        if self.kind == "deadline":
            return Snooze(delay_s=0.0, reason=self.reason)
        return HandBack(reason=self.reason)


class JobContext(Protocol):
    """One execution of one job, seen from inside the processor."""

    @property
    def job_id(self) -> str:
        """BullMQ's job id; not always the task's id."""

    @property
    def attempt(self) -> int:
        """1 for the first attempt (BullMQ's attemptsMade + 1)."""

    @property
    def fence(self) -> int:
        """BullMQ's `ats`: +1 at every activation, stalls included. A lower fence is an older run."""

    @property
    def deadline(self) -> float:
        """The monotonic clock (seconds) at which the host ends this run."""

    @property
    def stop(self) -> StopRequest | None:
        """Set when the host wants the slot back. Look at it after any await."""

    async def progress(self, value: int | float | dict[str, Any]) -> None:
        """Store the job's progress (BullMQ's updateProgress) and tell its listeners."""

    async def log(self, line: str) -> None:
        """Append a line to the job's own log (BullMQ's job.log)."""

    async def children_values(self) -> dict[str, Any]:
        """The results of the children that completed, by their keys, `<prefix>:<queue>:<id>` (getChildrenValues).

        Raises:
            TransientError: they could not be read.
        """

    async def children_failures(self) -> dict[str, str]:
        """Why children failed whose options let this job go on, by their keys (getIgnoredChildrenFailures).

        Raises:
            TransientError: they could not be read.
        """

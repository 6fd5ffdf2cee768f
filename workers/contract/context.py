"""What a processor may ask of its host. Arguments and replies are JSON, so the calls can cross a pipe."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from tasks.base import Task
from tasks.priority import Urgency
from workers.contract.effect import Effect
from workers.contract.outcomes import Cancel, HandBack, Outcome, Park, TimeUp

Progress: TypeAlias = int | float | dict[str, Any]

StopKind: TypeAlias = Literal["pause", "stop", "drain", "budget", "deadline", "lock_lost"]


@dataclass(frozen=True)
class StopRequest:
    """Why the host wants the slot back, and until when it waits.

    `return stop.outcome()` is always a right answer; so is going on to the end, if that comes before `by`.
    """

    kind: StopKind
    """pause: its owner or its ladder sets it aside. stop: somebody ended it. drain: this process shuts down.
    budget: nothing is left for it. deadline: its time is up. lock_lost: someone else has the job."""
    reason: str
    by: float
    """The host's monotonic clock (`time.monotonic()`, seconds) at which it stops waiting."""

    def outcome(self) -> Outcome:
        """The outcome that fits: handed back on drain and on a lost lock, set aside on pause and budget, failed for
        good on stop, failed as timed out on deadline.
        """
        match self.kind:
            case "drain" | "lock_lost":
                return HandBack(reason=self.reason)
            case "pause" | "budget":
                return Park(reason=self.reason)
            case "stop":
                return Cancel(reason=self.reason)
            case "deadline":
                return TimeUp(reason=self.reason)


class JobContext(Protocol):
    """One execution of one job, seen from inside the processor. A `def` processor gets the same with methods that
    return when they are done: `ctx.progress(40)` (SyncJobContext).
    """

    @property
    def job_id(self) -> str:
        """BullMQ's job id; not always the task's id."""

    @property
    def attempt(self) -> int:
        """1 for the first attempt (BullMQ's attemptsMade + 1)."""

    @property
    def fence(self) -> int:
        """BullMQ's `ats`: +1 at every activation, stalls included. A lower fence is an older run; the next run after
        a hand-back, whose start is taken back, has the same."""

    @property
    def deadline(self) -> float:
        """The monotonic clock (seconds) at which the host ends this run at the latest."""

    @property
    def restored(self) -> Any:
        """The state of the last `checkpoint` of an earlier run of this job; None where there is none, or none that can
        be read."""

    @property
    def stop(self) -> StopRequest | None:
        """Set when the host wants the slot back. Look at it after any await."""

    @property
    def checkpoint_due(self) -> bool:
        """The host asks for a `checkpoint`, by which it is answered: what is not saved may soon be lost."""

    def decline(self, reason: str) -> None:
        """Say that what the ladder asks now (a pause, a stop, a checkpoint) can't be done, so that the host need not
        wait for it: the request is over, and the next rung follows, at once where it has no time of its own. What the
        host can't take back, a drain or a lost lock, is not declined by it; nothing is where nothing was asked.

        Args:
            reason: for the log.
        """

    async def progress(self, value: Progress) -> None:
        """Store the job's progress (BullMQ's updateProgress) and tell its listeners.

        Args:
            value: a finite number, by habit 0 to 100, or an object of JSON, 64 kB at most, by habit
                `{"status": "running", "progress": 40, "currentStep": "fetch"}`: what it has of these three is a text, a
                number and a text.

        Raises:
            ValueError, TypeError: it is neither.
        """

    async def log(self, line: str) -> None:
        """Append a line to the job's own log (BullMQ's job.log)."""

    async def checkpoint(self, state: Any) -> StopRequest | None:
        """Save what a later run needs to go on from here, then say whether to yield:
        `if stop := await ctx.checkpoint(state): return stop.outcome()`.

        A state that can't be stored now is reported, not felt: the run goes on, and a later one starts further back.

        Args:
            state: JSON, 1 MB at most. The next run finds it in `restored`, up to a week after it was saved or after the
                time until which the job was put off. It is forgotten when the job has completed or failed for good.

        Raises:
            ValueError, TypeError: it is not JSON, or too large.
        """

    async def add(
        self,
        task: Task,
        *,
        child: bool = False,
        priority: int | None = None,
        urgency: Urgency | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """Add a job for this task to the queue that carries its type; returns the job's id.

        Args:
            child: as a child of this job, which can then wait for it (WaitForChildren).
            priority: BullMQ's, 0 to 2,097,151; the lowest comes first, and 0, which is none, before all others. None:
                by the rule of its queue (`task.priority`).
            urgency: low, normal, high or critical, where that rule is the generic one. None: what the task says.
            delay_s: how long it waits before it can start, seconds.

        Raises:
            TransientError: it could not be added.
            PermanentError: no queue is configured for its type, or an argument is not what it should be.
        """

    def once(self, effect: str) -> AbstractAsyncContextManager[Effect]:
        """Guard one effect for one recipient, over all runs of the job. `async with ctx.once("mail:bob") as effect:`
        reserves it; do it if `effect.state` is `fresh`, then `await effect.settle()`.

        Raises:
            UnavailableError: this fleet keeps no ledger.
        """

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

"""What one queue's worker needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.broker.activation import UNBOUNDED, Bounds
from workers.broker.reconnect import RECONNECT, Reconnect


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Times in milliseconds where BullMQ wants them so."""

    name: str
    """The worker's name: shown by Node's getWorkers and stored as `processedBy`."""
    slots: int = 1
    bounds: Bounds = UNBOUNDED
    """What of a job is parsed when it is fetched. Defaults to all that Redis holds."""
    lock_ms: int = 60_000
    stalled_interval_ms: int = 30_000
    pause_look_s: float = 10.0
    """Seconds between two looks at whether the queue is paused for everyone. Defaults to 10."""
    max_stalls: int = 1
    drain_delay_s: float = 5.0
    """How long an idle worker blocks for the next job's marker before it looks by itself."""
    limiter: Mapping[str, int] | None = None
    """{"max": jobs, "duration": ms}."""
    max_limit_s: float = 30.0
    """The longest wait for a rate limit before asking again: it may have been lifted, and delayed jobs become due.
    BullMQ's maximumRateLimitDelay and its default."""
    max_starts: int | None = None
    """Starts of one job, the delayed and stalled ones included, after which it fails: BullMQ's maxStartedAttempts.
    None: no limit."""
    keep_completed: Any = False
    """BullMQ's removeOnComplete for jobs that have none of their own."""
    keep_failed: Any = False
    links_only: bool = False
    """The process span starts a trace of its own and only links to the producer's."""
    reconnect: Reconnect = RECONNECT
    """The waits between tries while Redis is away."""

    def options(self) -> dict[str, Any]:
        """What BullMQ's own Worker is told, under its names. It does not run by itself."""
        return {
            "name": self.name,
            "autorun": False,
            "concurrency": self.slots,
            "lockDuration": self.lock_ms,
            "stalledInterval": self.stalled_interval_ms,
            "maxStalledCount": self.max_stalls,
            "drainDelay": self.drain_delay_s,
        }

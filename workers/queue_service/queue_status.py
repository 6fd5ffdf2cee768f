"""One queue at one moment, as it is shown: what is in it, what holds it up, and who works on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.broker.stats import QueueStats, WorkerSeen


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What is known of a queue."""

    stats: QueueStats
    is_configured: bool
    """It is in the configuration; else others have made it."""

    @property
    def workers(self) -> tuple[WorkerSeen, ...]:
        """Who works on it, on both sides; nobody where the server does not tell, see `problems`."""
        return self.stats.workers or ()

    @property
    def sides(self) -> Mapping[str, int]:
        """How many workers there are of each side."""
        return Counter(worker.side for worker in self.workers)

    @property
    def competitors(self) -> tuple[WorkerSeen, ...]:
        """Workers that are none of ours, and take jobs of a configured queue. The Node stack starts one with each of
        its queues, wherever it touches it.
        """
        return (
            tuple(worker for worker in self.workers if worker.side in ("node", "python")) if self.is_configured else ()
        )

    def json(self) -> dict[str, Any]:
        """For output; counts in the words of BullMQ's getJobCounts."""
        stats = self.stats
        return {
            "queueName": stats.queue,
            "configured": self.is_configured,
            **stats.counts,
            "due": stats.due,
            "backlog": stats.backlog,
            "isPaused": stats.is_paused,
            "rateLimitedSeconds": stats.limited_s,
            "oldestWaitingSeconds": stats.oldest_waiting_s,
            "workers": None if stats.workers is None else [worker.json() for worker in stats.workers],
            "competitors": len(self.competitors),
            "problems": list(stats.problems),
        }

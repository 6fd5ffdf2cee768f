"""Workers that are none of ours on queues that we serve: they take jobs, and run them by their own rules."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from workers.queue_service import QueueStats, StatsReader
from workers.queue_service.queue_status import QueueStatus
from workers.queue_service.verdict import shown

log = logging.getLogger(__name__)

#: Between two looks, seconds: the server lists all its clients for each.
EVERY_S = 30.0
#: How old a look may be to be told, seconds.
RECENT_S = 90.0
#: Workers that are named.
NAMED = 3


class Competitors:
    """Sees them. Belongs to one event loop.

    Args:
        reader: reads who works on the queues.
        every_s: between two looks, seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self, reader: StatsReader, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader = reader
        self._every_s = every_s
        self._clock = clock
        self._looked_at = float("-inf")
        self._seen: dict[str, QueueStatus] = {}

    async def look(self, states: Mapping[str, object]) -> None:
        """See who works on these queues, where it is time. Never raises: that Redis is away others say."""
        now = self._clock()
        if now - self._looked_at < self._every_s:
            return
        try:
            found = await self._reader.read(states, workers=True)
        except Exception:
            log.debug("it can't be told who works on the queues", exc_info=True)
            return
        self._looked_at = now
        self._take({queue: QueueStatus(stats, True) for queue, stats in found.items() if _is_told(stats)})

    def told(self) -> dict[str, str]:
        """What is to be known of each queue that others work on, in words. No I/O."""
        if self._clock() - self._looked_at > RECENT_S:
            return {}
        return {queue: words for queue, status in self._seen.items() if (words := _words(status))}

    def sides(self) -> dict[str, Mapping[str, int]]:
        """How many workers of each side there are on each queue. No I/O; legal from any thread."""
        if self._clock() - self._looked_at > RECENT_S:
            return {}
        return {queue: status.sides for queue, status in dict(self._seen).items()}

    def _take(self, found: dict[str, QueueStatus]) -> None:
        """Say once that there are some, and once that there are none any more."""
        for queue, status in found.items():
            before = self._seen.get(queue)
            had = before is not None and bool(before.competitors)
            if status.competitors and not had:
                log.warning(
                    "queue %s: %s: they take its jobs, and none of the settings here apply to those",
                    queue,
                    _words(status),
                )
            elif had and not status.competitors:
                log.info("queue %s: no other workers any more", queue)
        self._seen = found


def _is_told(stats: QueueStats) -> bool:
    return stats.workers is not None


def _words(status: QueueStatus) -> str:
    """`2 workers of Node's: 10.0.0.7:4242, …`; empty where all are ours."""
    if not status.competitors:
        return ""
    sides = Counter(worker.side for worker in status.competitors)
    whose = {"node": "Node's", "python": "other Python programs"}
    counts = [f"{number} {'worker' if number == 1 else 'workers'} of {whose[side]}" for side, number in sides.items()]
    names = [shown(worker.name or worker.address) for worker in status.competitors[:NAMED]]
    more = ", …" if len(status.competitors) > NAMED else ""
    return f"{' and '.join(counts)} ({', '.join(names)}{more})"

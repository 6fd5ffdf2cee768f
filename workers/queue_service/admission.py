"""Whether a queue may be added to, decided by samples of how much waits in it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workers.broker.pressure import UNKNOWN_S, Limits, Pressure, Sample, decide
from workers.broker.result import message
from workers.broker.stats import QueueStats, StatsReader
from workers.queue_service.errors import QueueFull, QueueServiceError, QueueUnavailableError, RefusedError

#: How old a sample may be that decides on an addition, seconds; and how long a failure to take one is believed.
FRESH_S = 1.0
#: How far back samples tell how fast a queue drains, seconds.
WINDOW_S = 60.0
#: Characters of an error that are shown.
MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class QueueState:
    """What was last seen of a queue."""

    stats: QueueStats
    pressure: Pressure
    at: float
    """When, monotonic seconds."""


class Admission:
    """Decides by samples whether a queue may be added to. Belongs to one event loop; constructs nothing, connects to
    nothing until it is asked.

    Args:
        reader: reads the depths.
        limits: of each queue that is looked at; the others may be added to without a look.
        timeout_s: how long a look at Redis may take.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reader: StatsReader,
        limits: Mapping[str, Limits],
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._limits = dict(limits)
        self._timeout_s = timeout_s
        self._clock = clock
        self._states: dict[str, QueueState] = {}
        self._history: dict[str, deque[Sample]] = {}
        self._look: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self._problem: str | None = None

    async def admit(self, queue: str, count: int = 1) -> None:
        """Return if the queue may be added to. Looks at Redis at most once a second, for all callers and all queues
        together; a queue without limits costs nothing.

        Args:
            count: so many jobs are to be added. More than fit beside those that wait are refused, all of them.

        Raises:
            QueueFull: not now.
            RefusedError: so many are more than the queue may ever hold.
            QueueUnavailableError: Redis did not answer within `timeout_s`, or just now to somebody else.
        """
        if not self._limits.get(queue):
            return
        if self._clock() - self._looked_at >= FRESH_S:
            await self._shared_look()
        if self._problem is not None:
            raise QueueUnavailableError(
                f"queue {queue}: it can't be told how much waits: {self._problem} (redis.url)", queue=queue
            )
        state = self._states.get(queue)
        if state is None:
            return
        if state.pressure.full:
            raise QueueFull(queue, state.pressure)
        depth = self._limits[queue].depth
        if count > 1 and depth is not None and state.stats.backlog + count > depth:
            raise _too_many(queue, count, state.stats.backlog, depth)

    async def refresh(self) -> str | None:
        """Look at all queues now. Returns what is wrong, if Redis did not answer; the states are then the old ones."""
        await self._shared_look()
        return self._problem

    def adopt(self, limits: Mapping[str, Limits], rates: Mapping[str, int]) -> None:
        """Go by these limits and rates (see StatsReader) from the next look on; queues without any are seen no more."""
        self._limits = dict(limits)
        self._reader.rates = dict(rates)
        for queue in self._states.keys() - limits.keys():
            del self._states[queue]
            self._history.pop(queue, None)

    def state(self, queue: str) -> QueueState | None:
        """What was last seen of this queue; None: nothing yet. No I/O."""
        return self._states.get(queue)

    def states(self) -> dict[str, QueueState]:
        """What was last seen of each queue. No I/O; legal from any thread."""
        return dict(self._states)

    async def close(self) -> None:
        """End a look that is under way; its callers get QueueUnavailableError. Legal at any time, also twice."""
        if self._look is not None and not self._look.done():
            self._look.cancel()
            await asyncio.wait({self._look})

    async def _shared_look(self) -> None:
        """Look once for all that ask meanwhile. A caller that is cancelled leaves the look to the others."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._take_a_look(), name="queue-stats")
        await asyncio.wait({self._look})

    async def _take_a_look(self) -> None:
        problem: str | None = "the look at it was given up"
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._reader.read(self._limits)
            now = self._clock()
            for queue in found.keys() & self._limits.keys():
                self._states[queue] = self._judged(queue, found[queue], now)
            problem = None
        except TimeoutError as error:
            problem = str(error) or f"no answer within {self._timeout_s:g} s"
        except Exception as error:
            problem = message(error, MAX_DETAIL)
        finally:
            self._problem, self._looked_at = problem, self._clock()

    def _judged(self, queue: str, stats: QueueStats, now: float) -> QueueState:
        history, sample = self._history.setdefault(queue, deque()), Sample.of(stats, now)
        while history and history[0].at < now - WINDOW_S:
            history.popleft()
        former = self._states.get(queue)
        was_full = former is not None and former.pressure.full
        pressure = decide(sample, self._limits[queue], history, was_full=was_full)
        history.append(sample)
        return QueueState(stats, pressure, now)


def _too_many(queue: str, count: int, waiting: int, limit: int) -> QueueServiceError:
    if count > limit:
        text = f"queue {queue}: {count:,} jobs at once are more than may wait there, {limit:,}: add them in parts"
        return RefusedError(f"{text} (queues.{queue}.limits.depth)", queue=queue)
    reason = f"{waiting:,} waiting and {count:,} to be added, limit {limit:,}"
    return QueueFull(queue, Pressure(True, reason, "depth", UNKNOWN_S))

"""Looks at the queues every few seconds, for health and metrics. A Service; one for each pod."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from workers.ops.health import Check
from workers.queue_service import Admission, QueueState

log = logging.getLogger(__name__)

#: Between two looks, seconds.
EVERY_S = 5.0


class QueueWatch:
    """Keeps the states of a Admission recent. Redis may be away: it looks again.

    Args:
        queues: what is kept recent; closed on stop.
        close: ends the connection that it looks through, last.
        every_s: between two looks, seconds.
        after: told the states of all queues after each look that found them. Must not raise.
    """

    name = "queue-watch"

    def __init__(
        self,
        queues: Admission,
        *,
        close: Callable[[], Awaitable[None]],
        every_s: float = EVERY_S,
        after: Sequence[Callable[[Mapping[str, QueueState]], Awaitable[None]]] = (),
    ) -> None:
        self._queues = queues
        self._after = tuple(after)
        self._close = close
        self._every_s = every_s
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Look from now on; Redis need not be there yet.

        Raises:
            RuntimeError: it was started or stopped before.
        """
        if self._task is not None or self._stopped.is_set():
            raise RuntimeError("the queues are watched already, or were; make a new QueueWatch")
        self._task = asyncio.create_task(self._watch(), name="queue-watch")
        self._task.add_done_callback(lambda _: self._stopped.set())

    async def wait(self) -> None:
        """Return after `stop`; raise what ended the watch."""
        await self._stopped.wait()
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def stop(self, *, by: float) -> None:
        """Look no more, disconnect; return by `by` (monotonic seconds), whatever Redis does. Idempotent; legal before
        `start`."""
        self._stopped.set()
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="queue-watch-end")
        await asyncio.wait({self._ending}, timeout=max(0.0, by - time.monotonic()))

    def health(self) -> Check:
        """Whether it looks, and what it saw last. No I/O."""
        if self._task is None or self._task.done() or self._stopped.is_set():
            return Check(self.name, False, "not watching", frozenset())
        detail = self._problem or f"{len(self._queues.states())} queues seen"
        return Check(self.name, True, detail, frozenset())

    async def _watch(self) -> None:
        while True:
            problem = await self._queues.refresh()
            self._tell(problem)
            for told in self._after if problem is None else ():
                await told(self._queues.states())
            await asyncio.sleep(self._every_s)

    def _tell(self, problem: str | None) -> None:
        """Say it once when looking begins to fail, and once when it works again."""
        if problem is not None and self._problem is None:
            log.warning("it can't be told how much waits: %s; looking again every %g s", problem, self._every_s)
        elif problem is None and self._problem is not None:
            log.info("it can be told again how much waits")
        self._problem = problem

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._queues.close()
        try:
            await self._close()
        except Exception as error:
            log.warning("the queue watch's connection did not close: %s", error)

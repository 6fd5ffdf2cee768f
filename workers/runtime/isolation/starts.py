"""The starts of a queue's child processes: only so many at once, and after one that failed a pause, which grows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import Context

from workers.broker.events import ChildReady, ChildStartFailed, Event
from workers.broker.reconnect import Reconnect
from workers.runtime.isolation.child import Child, StartError
from workers.runtime.supervision import cores

log = logging.getLogger(__name__)

#: Waits after children that could not be started: the first and the longest.
BACKOFF = Reconnect(0.5, 30.0)


class Starts:
    """Starts children without the context of the job that has brought it about: its log fields, its span.

    Args:
        spawn: makes a child and returns when it is ready. Raises StartError.
        on_ready: given each child.
        on_over: told that a start is over, whichever way.
        on_error: told that children can't be started: once for each reason, however often it is met.
        tell: told of each start.
        at_once: starts at once at most. 0: as many as there are cores.
    """

    def __init__(
        self,
        queue: str,
        spawn: Callable[[], Awaitable[Child]],
        *,
        on_ready: Callable[[Child], None],
        on_over: Callable[[], None],
        on_error: Callable[[Exception], None],
        tell: Callable[[Event], None],
        backoff: Reconnect = BACKOFF,
        at_once: int = 0,
    ) -> None:
        self._queue = queue
        self._spawn = spawn
        self._on_ready, self._on_over, self._on_error, self._tell = on_ready, on_over, on_error, tell
        self._backoff = backoff
        self._at_once = at_once or cores.available()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._not_before = 0.0
        self.why = ""
        """Why the last start failed; empty where it did not."""
        self.first_s: float | None = None
        """How long the first child took to be ready."""

    def __len__(self) -> int:
        return len(self._tasks)

    async def first(self) -> Child:
        """Start one and wait for it.

        Raises:
            StartError: it could not be started, or could not open the module.
        """
        return await asyncio.get_running_loop().create_task(self._timed(), context=Context())

    def want(self, missing: int, urgent: int) -> None:
        """Start those that are missing: of what is urgent as many at once as may be, else one after the other."""
        at_once = 1 if self._failures else min(self._at_once, max(1, urgent))
        for _ in range(min(missing, at_once) - len(self)):
            task = asyncio.get_running_loop().create_task(self._start(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._done, context=Context())

    def failed(self) -> None:
        """One has failed, or was of no use: pause before the next."""
        self._failures += 1
        self._not_before = time.monotonic() + self._backoff.wait_s(self._failures)

    def worked(self) -> None:
        """A child has been of use: the pauses begin anew."""
        self._failures = 0

    async def close(self) -> None:
        """Give up those that are under way. Returns when nothing is left of them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _start(self) -> None:
        await asyncio.sleep(self._not_before - time.monotonic())
        try:
            child = await self._timed()
        except Exception as error:
            self.refused(error)
            return
        if self.why:
            log.info("queue %s: child processes can be started again", self._queue)
            self.why = ""
        self._on_ready(child)

    async def _timed(self) -> Child:
        began = time.monotonic()
        child = await self._spawn()
        took_s = time.monotonic() - began
        if self.first_s is None:
            self.first_s = took_s
        self._tell(ChildReady(queue=self._queue, took_s=took_s))
        return child

    def refused(self, error: Exception) -> None:
        """A start has failed: told once for each reason, and followed by a pause."""
        self.failed()
        self._tell(ChildStartFailed(queue=self._queue))
        former, self.why = self.why, str(error)
        if self.why != former:
            self._on_error(error if isinstance(error, StartError) else StartError(repr(error)))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a child process could not be started", exc_info=error)
        self._on_over()

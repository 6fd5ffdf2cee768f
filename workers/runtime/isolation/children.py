"""Isolation `process`: the processor runs in child processes, each one job at a time, which may be killed.

A child is a fresh interpreter that has opened the queue's module and nothing else of a worker. One is started with the
queue, the others behind it until there is one for each slot; those that jobs wait for first, and never more at once
than there are cores. One that is about to be replaced has its successor started before. Where a start fails, another
follows after a pause, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workers.broker.events import ChildDied, ChildRecycled, Event
from workers.broker.reconnect import Reconnect
from workers.contract import CrashedError
from workers.runtime.isolation import forks
from workers.runtime.isolation.brief import Brief
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.child import Child, DiedAtStartError
from workers.runtime.isolation.crash import MemoryKills
from workers.runtime.isolation.place import ChildPlace, NoPlaceError
from workers.runtime.isolation.starts import BACKOFF, Starts

log = logging.getLogger(__name__)

#: How long a child may take to close its module, seconds.
CLOSE_S = 1.0
#: How long a job waits for a child before it is put off, and for how long it then is, seconds.
PATIENCE_S, PUT_OFF_S = 30.0, 10.0
#: The share of `Limits.memory` from which a child has its successor started.
NEAR = 0.9


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many children, and when one is replaced."""

    size: int
    """Children that run jobs: the queue's slots. Beside them there may be successors, one for each that is about to be
    replaced."""
    max_jobs: int
    """Jobs after which one is replaced."""
    memory: int
    """Resident memory from which one is replaced after its job, bytes."""
    starts: int = 0
    """Children that are started at once at most. 0: as many as there are cores."""


class Children:
    """The children of one queue. Entered and left like the module that they open. Implements Isolator and Places.

    Args:
        on_error: told, once, that children can't be started, and of each that died between two jobs.
        tell: told of each start, death and replacement.
        backoff: the waits after starts that failed.
        patience_s: see Places.
    """

    def __init__(
        self,
        brief: Brief,
        limits: Limits,
        on_error: Callable[[Exception], None] = lambda error: None,
        backoff: Reconnect = BACKOFF,
        *,
        tell: Callable[[Event], None] = lambda event: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._brief = brief
        self._limits = limits
        self._on_error = on_error
        self._tell = tell
        self.patience_s = patience_s
        self._idle: list[Child] = []
        """The one that has run a job last comes last, and is taken first."""
        self._busy: set[Child] = set()
        self._living: set[Child] = set()
        self._waiters: deque[asyncio.Future[Child]] = deque()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = True
        """Before it is entered, too."""
        self._memory_kills: MemoryKills
        self._starts = Starts(
            brief.queue,
            self._spawn,
            on_ready=self._ready,
            on_over=self._grow,
            on_error=on_error,
            tell=tell,
            backoff=backoff,
            at_once=limits.starts,
        )

    async def __aenter__(self) -> Self:
        """Start the first child, and begin to start the others. Where it dies before its module has a say, others
        follow as ever: the queues beside this one are served meanwhile.

        Raises:
            StartError: it could not open the module.
        """
        forks.install()
        self._memory_kills = MemoryKills()
        try:
            self._idle.append(await self._starts.first())
        except DiedAtStartError as error:
            self._starts.refused(error)
        else:
            took_ms = (self.started_in_s or 0.0) * 1000
            log.info("queue %s: the first child process was ready after %.0f ms", self._brief.queue, took_ms)
        self._closed = False
        self._grow()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them; those that still run a job by force."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(self._ended())
        for child in self._living.difference(self._idle):
            child.kill()
        for child in self._living:
            self._keep(child.end(CLOSE_S))
        await self._starts.close()
        while self._ending:
            await asyncio.wait(self._ending)

    async def run(self, call: Call) -> Any:
        """See Isolator. Waits for a child itself.

        Raises:
            NoPlaceError: see Places.
        """
        return await (self.take() or await self.place()).run(call)

    @property
    def started_in_s(self) -> float | None:
        """How long the first child took to be ready."""
        return self._starts.first_s

    @property
    def pids(self) -> frozenset[int]:
        """The processes that are there now."""
        return frozenset(child.pid for child in self._living)

    @property
    def trouble(self) -> str:
        """See Places."""
        why = self._starts.why
        return f"no child process can be started: {why}" if why and not self._living else ""

    # ------------------------------------------------------------------ getting one

    def take(self) -> ChildPlace | None:
        """See Places."""
        child = self._free()
        return None if child is None else ChildPlace(child, self._release)

    async def place(self) -> ChildPlace:
        """See Places."""
        if self._closed:
            raise self._ended()
        waiter: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._grow()
        try:
            async with asyncio.timeout(self.patience_s):
                return ChildPlace(await waiter, self._release)
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release(waiter.result())
            if isinstance(error, TimeoutError):
                raise self._none_free() from None
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _free(self) -> Child | None:
        """An idle one, busy from now on."""
        while self._idle and len(self._busy) < self._limits.size:
            child = self._idle.pop()
            if not child.doomed:  # else it has died since it was ready
                self._busy.add(child)
                if self._is_worn(child):
                    self._grow()
                return child
        return None

    def _serve(self) -> None:
        """Give what is idle to those that wait, the longest first; start what is missing."""
        while self._waiters:
            if self._waiters[0].done():
                self._waiters.popleft()
            elif (child := self._free()) is not None:
                self._waiters.popleft().set_result(child)
            else:
                break
        self._grow()

    def _release(self, child: Child) -> None:
        """Its job is over, or was none."""
        self._busy.discard(child)
        if child.doomed:
            self._living.discard(child)
        else:
            if child.jobs:
                self._starts.worked()
            why = self._worn_out(child)
            if why is None:
                self._idle.append(child)
            else:
                self._retire(child, why)
        self._serve()

    def _worn_out(self, child: Child) -> str | None:
        """Why it runs no further job."""
        if child.spent:
            return "state"
        if child.jobs >= self._limits.max_jobs:
            return "jobs"
        return "memory" if (child.resident or 0) >= self._limits.memory else None

    def _retire(self, child: Child, why: str) -> None:
        """End it; it is at most as old and as large as it may be."""
        self._living.discard(child)
        if self._closed:
            child.kill()
            return
        self._tell(ChildRecycled(queue=self._brief.queue, reason=why))
        self._keep(child.end(CLOSE_S))

    def _none_free(self) -> NoPlaceError:
        reason = self.trouble or f"no child process was free within {self.patience_s:g} s"
        return NoPlaceError(reason, PUT_OFF_S)

    def _ended(self) -> NoPlaceError:
        return NoPlaceError("its queue's child processes have ended", PUT_OFF_S)

    # -------------------------------------------------------------- coming and going

    def _grow(self) -> None:
        """Have those started that are missing."""
        if not self._closed:
            worn = sum(map(self._is_worn, self._living))
            self._starts.want(self._limits.size + worn - len(self._living), len(self._waiters) + worn)

    def _is_worn(self, child: Child) -> bool:
        """Whether its successor is to be there soon: it has one job left, or is nearly as large as it may be."""
        if child.jobs + 1 >= self._limits.max_jobs and (child.jobs or child in self._busy):
            return True
        return (child.resident or 0) >= self._limits.memory * NEAR

    async def _spawn(self) -> Child:
        child = Child(self._brief, self._gone, self._memory_kills)
        await child.start()
        self._living.add(child)
        return child

    def _ready(self, child: Child) -> None:
        if not child.doomed:
            self._idle.insert(0, child)
            self._serve()

    def _gone(self, child: Child) -> None:
        """A child's process has ended, whoever wanted it."""
        self._living.discard(child)
        self._keep(self._buried(child))
        if child in self._idle:
            self._idle.remove(child)
            if self._closed:  # it was asked to
                return
            if not child.jobs:  # as the next one may
                self._starts.failed()
            self._on_error(CrashedError(f"a child process of queue {self._brief.queue} died between two jobs"))
        self._grow()

    async def _buried(self, child: Child) -> None:
        await child.buried()
        if child.cause is not None and not self._closed:
            self._tell(ChildDied(queue=self._brief.queue, reason=child.cause))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Perform it without the context of the job that has brought it about: its log fields, its span."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, context=Context())
        self._ending.add(task)
        task.add_done_callback(self._kept, context=Context())

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a child process could not be ended", exc_info=error)

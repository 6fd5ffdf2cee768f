"""Isolation `process`: the processor runs in child processes, each one job at a time, which may be killed.

A child is a fresh interpreter that has opened the queue's module and nothing else of a worker. One is started with the
queue, others when there is work for them; idle ones stay. A dead one is replaced at once, or, where that fails, when
there is work again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workers.broker.reconnect import Reconnect
from workers.contract import CrashedError
from workers.runtime.isolation import forks
from workers.runtime.isolation.brief import Brief
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.child import Child, StartError
from workers.runtime.isolation.crash import MemoryKills

log = logging.getLogger(__name__)

#: How long a child may take to close its module, seconds.
CLOSE_S = 1.0
#: Waits after children that could not be started: the first and the longest.
BACKOFF = Reconnect(0.5, 30.0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many children, and when one is replaced."""

    size: int
    """Children at most: the queue's slots."""
    max_jobs: int
    """Jobs after which one is replaced."""
    memory: int
    """Resident memory from which one is replaced after its job, bytes."""


class Children:
    """The children of one queue. Entered and left like the module that they open.

    Args:
        on_error: told of each child that could not be started, or died between two jobs.
        backoff: the waits after starts that failed.
    """

    def __init__(
        self,
        brief: Brief,
        limits: Limits,
        on_error: Callable[[Exception], None] = lambda error: None,
        backoff: Reconnect = BACKOFF,
    ) -> None:
        self._brief = brief
        self._limits = limits
        self._on_error = on_error
        self._backoff = backoff
        self._idle: list[Child] = []
        self._living: set[Child] = set()
        self._waiters: deque[asyncio.Future[Child]] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self._memory_kills: MemoryKills
        self.started_in_s: float | None = None
        """How long the first child took to be ready."""

    async def __aenter__(self) -> Self:
        """Start the first child.

        Raises:
            StartError: it could not be started, or could not open the module.
        """
        forks.install()
        self._memory_kills = MemoryKills()
        began = time.monotonic()
        child = await self._spawn()
        self.started_in_s = time.monotonic() - began
        log.info(
            "queue %s: the first child process was ready after %.0f ms", self._brief.queue, self.started_in_s * 1000
        )
        self._idle.append(child)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them; those that still run a job by force."""
        self._closed = True
        for waiter in self._waiters:
            waiter.cancel()
        for task in self._starting:
            task.cancel()
        for child in self._living.difference(self._idle):
            child.kill()
        self._ending.update(asyncio.ensure_future(child.end(CLOSE_S)) for child in self._living)
        while tasks := self._starting | self._ending:
            await asyncio.wait(tasks)
            self._ending -= tasks
            self._starting -= tasks

    async def run(self, call: Call) -> Any:
        """See Isolation.

        Raises:
            CrashedError: besides, no child could be started.
        """
        child = self._idle.pop() if self._idle else await self._wait()
        while child.doomed:  # it has died since it was ready
            child = self._idle.pop() if self._idle else await self._wait()
        try:
            return await child.run(call)
        finally:
            self._release(child)

    @property
    def pids(self) -> frozenset[int]:
        """The processes that are there now."""
        return frozenset(child.pid for child in self._living)

    # ------------------------------------------------------------------ getting one

    async def _wait(self) -> Child:
        if self._closed:
            raise CrashedError("its queue's child processes have ended")
        waiter: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._grow()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._offer(waiter.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _offer(self, child: Child) -> None:
        """Give it to who waits longest, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(child)
                return
        self._idle.append(child)

    def _release(self, child: Child) -> None:
        """Its job is over."""
        if child.doomed:
            self._living.discard(child)
            self._replace()
        elif child.spent or child.jobs >= self._limits.max_jobs or (child.resident or 0) >= self._limits.memory:
            self._retire(child)
        else:
            self._offer(child)

    def _retire(self, child: Child) -> None:
        """End it; it is at most as old and as large as it may be."""
        self._living.discard(child)
        if self._closed:
            child.kill()
            return
        self._keep(self._ending, child.end(CLOSE_S))
        self._replace()

    # ------------------------------------------------------------------ starting one

    def _replace(self) -> None:
        """Start another at once, or the next job would wait for it; where that fails, with the next job."""
        self._grow(spare=0 if self._idle else 1)

    def _grow(self, spare: int = 0) -> None:
        """Start as many as are wanted and may be."""
        wanted = len(self._waiters) + spare - len(self._starting)
        room = self._limits.size - len(self._living) - len(self._starting)
        if not self._closed:
            for _ in range(min(wanted, room)):
                self._keep(self._starting, self._start())

    async def _start(self) -> None:
        await asyncio.sleep(self._not_before - time.monotonic())
        try:
            child = await self._spawn()
        except StartError as error:
            self._failed(error)
        else:
            self._failures = 0
            self._offer(child)

    async def _spawn(self) -> Child:
        child = Child(self._brief, self._gone, self._memory_kills)
        await child.start()
        self._living.add(child)
        return child

    def _failed(self, error: StartError) -> None:
        """The job that waits longest fails; the others wait for the next try."""
        self._failures += 1
        self._not_before = time.monotonic() + self._backoff.wait_s(self._failures)
        self._on_error(error)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(CrashedError(f"no child process could be started: {error}"))
                return

    def _gone(self, child: Child) -> None:
        """A child's process has ended, whoever wanted it."""
        self._living.discard(child)
        self._keep(self._ending, child.buried())
        if child in self._idle:
            self._idle.remove(child)
            self._on_error(CrashedError(f"a child process of queue {self._brief.queue} died between two jobs"))
            self._replace()

    def _keep(self, tasks: set[asyncio.Task[None]], work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(self._kept(tasks))

    def _kept(self, tasks: set[asyncio.Task[None]]) -> Callable[[asyncio.Task[None]], None]:
        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a child process could not be started or ended", exc_info=error)
            self._grow()

        return done

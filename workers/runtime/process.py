"""The queues of one process: waits for Redis, opens the modules, runs the workers, drains them. A Service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TypeAlias

from workers.broker.preflight import StartRefusedError
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.result import message
from workers.broker.worker import FleetWorker

log = logging.getLogger(__name__)

OpenQueue: TypeAlias = Callable[[AsyncExitStack], Awaitable[FleetWorker]]

#: How long closing the modules' connections may take once the workers have drained, seconds; and, of a shorter time,
#: the share that is kept for it.
CLOSE_S, CLOSE_SHARE = 2.0, 0.3
#: What the other workers are given to drain when one has died, seconds.
DEATH_GRACE_S = 10.0
#: Characters of an error that a state shows.
MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class State:
    """One thing to know about the process; `name` is redis, or a queue's."""

    name: str
    ok: bool
    detail: str


class FleetProcess:
    """Runs the workers of its queues from `start` to `stop`.

    Args:
        name: shown by Node's getWorkers and in logs.
        examine: looks at Redis; raises StartRefusedError where we must not work, others to try again.
        queues: opens one queue's module on the given stack and builds its worker.
        close: ends what was opened for `examine`.
        redis: the server's address, safe to show.
        reconnect: the waits between tries while Redis is away.
        connections: how many connections to Redis are open now.
    """

    def __init__(
        self,
        *,
        name: str,
        examine: Callable[[], Awaitable[object]],
        queues: Mapping[str, OpenQueue],
        close: Callable[[], Awaitable[None]],
        redis: str,
        reconnect: Reconnect = RECONNECT,
        connections: Callable[[], int] | None = None,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.served = tuple(queues)
        self.skipped = dict(skipped or {})
        """Queues of the configuration that are not served here, and why."""
        self.drained = True
        """After `stop`: whether every job was finished or handed back."""
        self._examine = examine
        self._queues = queues
        self._close = close
        self._address = redis
        self._reconnect = reconnect
        self._connections = connections
        self._workers: dict[str, FleetWorker] = {}
        self._redis_state = State("redis", False, "not asked yet")
        self._main: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._gone = asyncio.Event()
        self._by = float("inf")
        self._preparing = False
        self._serving = False

    async def start(self) -> None:
        """Begin; returns at once. Redis need not be there yet: `ready` tells when jobs are taken."""
        if self._main is not None or self._stop.is_set():
            raise RuntimeError(f"process {self.name} was started or stopped before")
        self._main = asyncio.create_task(self._run())

    async def wait(self) -> None:
        """Return after `stop`.

        Raises:
            StartRefusedError: the server or the `bullmq` package must not be used as it is.
            Exception: a module could not be opened, or a worker died by itself.
        """
        if self._main is None:
            return
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({self._main, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if self._main.done() and not self._main.cancelled() and (error := self._main.exception()):
            raise error

    async def stop(self, *, by: float) -> None:
        """Drain by `by` (monotonic seconds). A second call with a nearer `by` hurries the first."""
        self._by = min(self._by, by)
        again = self._stop.is_set()
        self._stop.set()
        if self._main is None:
            return
        if self._preparing:  # nothing is held yet, and what is being waited for may take long
            self._main.cancel()
        elif again:
            await self._drain()
        await asyncio.wait({self._main}, timeout=max(0.0, by - time.monotonic()))
        if not self._main.done():
            self.drained = self.drained and not self._serving
            self._main.cancel()
            await asyncio.wait({self._main}, timeout=1.0)
        if not self._main.done():
            log.error("process %s ends although something in it does not", self.name)
        self._gone.set()

    @property
    def ready(self) -> bool:
        """Jobs of all queues are taken."""
        return not self._stop.is_set() and all(state.ok for state in self.states())

    @property
    def started(self) -> bool:
        """Every worker was opened; stays true."""
        return len(self._workers) == len(self._queues)

    def states(self) -> list[State]:
        """Redis, then each queue. No I/O."""
        if self._stop.is_set():
            return [State("draining", False, "shutting down"), *self._queue_states()]
        return [self._redis(), *self._queue_states()]

    def health(self) -> State:
        """All of `states` in one line."""
        bad = [f"{s.name}: {s.detail}" for s in self.states() if not s.ok]
        return State(self.name, not bad, "; ".join(bad) or f"serving {', '.join(self.served)}")

    def _redis(self) -> State:
        if all(worker.is_up for worker in self._workers.values()):
            state = self._redis_state
            if state.ok and self._connections is not None:
                return replace(state, detail=f"{state.detail}, {self._connections()} connections")
            return state
        return State("redis", False, f"{self._address} does not answer")

    def _queue_states(self) -> list[State]:
        states = []
        for queue in self._queues:
            health = self._workers[queue].health() if queue in self._workers else None
            states.append(State(queue, health is not None and health.ok, health.detail if health else "not open yet"))
        return states

    async def _run(self) -> None:
        stack = AsyncExitStack()
        stack.push_async_callback(self._close)
        try:
            if await self._prepare(stack):
                await self._serve()
        finally:
            await self._release(stack)

    async def _prepare(self, stack: AsyncExitStack) -> bool:
        """Reach Redis, open the modules; False when stopped meanwhile."""
        self._preparing = True
        try:
            if not self._stop.is_set():
                await self._reach_redis()
                for queue, open_queue in self._queues.items():
                    self._workers[queue] = await open_queue(stack)
        except asyncio.CancelledError:
            if not self._stop.is_set() or self._main is None:
                raise
            self._main.uncancel()
        finally:
            self._preparing = False
        return not self._stop.is_set()

    async def _serve(self) -> None:
        self._serving = True
        for worker in self._workers.values():
            await worker.start()
        log.info("serving %s from %s", ", ".join(self.served) or "no queue", self._address)
        stopping = asyncio.create_task(self._stop.wait())
        lives = [asyncio.create_task(worker.wait()) for worker in self._workers.values()]
        try:
            await asyncio.wait({stopping, *lives}, return_when=asyncio.FIRST_COMPLETED)
            died = [life for life in lives if life.done()]
        finally:
            for task in (stopping, *lives):
                task.cancel()
        if died and not self._stop.is_set():
            self._by = min(self._by, time.monotonic() + DEATH_GRACE_S)
        await self._drain()
        self.drained = all(worker.drained for worker in self._workers.values())
        self._serving = False
        for life in died:
            life.result()

    async def _drain(self) -> None:
        close_s = min(CLOSE_S, max(0.0, self._by - time.monotonic()) * CLOSE_SHARE)
        await asyncio.gather(*(worker.stop(by=self._by - close_s) for worker in self._workers.values()))

    async def _release(self, stack: AsyncExitStack) -> None:
        """Close the modules, then the connection to Redis. The jobs are written by now: a failure changes nothing."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await stack.aclose()
        except Exception:
            log.warning("process %s: closing what the queues had opened failed", self.name, exc_info=True)

    async def _reach_redis(self) -> None:
        """Try until Redis answers."""
        failures = 0
        while True:
            try:
                await self._examine()
            except StartRefusedError:
                raise
            except Exception as error:
                failures += 1
                wait = self._reconnect.wait_s(failures)
                detail = f"{self._address} does not answer ({message(error, MAX_DETAIL)})"
                self._redis_state = State("redis", False, detail)
                log.warning("%s; trying again in %.1f s (redis.url)", detail, wait)
                await asyncio.sleep(wait)
            else:
                self._redis_state = State("redis", True, self._address)
                return

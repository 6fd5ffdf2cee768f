"""Keeps the processes of the pools running: starts, watches, restarts, replaces them, forwards the drain. A Service."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from workers.contract import Service
from workers.runtime.process import State
from workers.runtime.supervision import recycle
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.life import EXIT_REFUSED, KILL_SLACK_S, BusyUntil
from workers.runtime.supervision.orphans import Orphans
from workers.runtime.supervision.pool_child import Emit, Event, PoolChild, Recycled, RefusedToStartError
from workers.runtime.supervision.roll import Roll, plan
from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.view import FleetView, ReloadView, pools

__all__ = ["EXIT_REFUSED", "ChildSpec", "RefusedToStartError", "Supervisor"]

log = logging.getLogger(__name__)

#: Between two looks at whether a process is to be replaced, seconds.
LOOK_S = 1.0
#: How long the system may need to end a killed process, seconds.
KILLED_S = 5.0


class Supervisor:
    """Runs a process for each spec.

    Args:
        emit: told each end of a process, before a successor may get its id, and each replacement.
        beside: services that start before the processes and stop after them.
        busy_until: asked of a process that is silent, see life.BusyUntil.
        queues: by pool, for the view.
    """

    name = "supervisor"

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        emit: Emit = lambda event: None,
        beside: Sequence[Service] = (),
        busy_until: BusyUntil = lambda pid: None,
        queues: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._emit = emit
        self._busy_until = busy_until
        self._children = {spec.name: PoolChild(spec, self._told, busy_until) for spec in specs}
        self._leaving: list[PoolChild] = []
        self._orphans = Orphans(lambda: [pid for child in self._all() for pid in child.pids])
        self._beside: tuple[Service, ...] = (*beside, self._orphans)
        self._runs: dict[PoolChild, asyncio.Task[None]] = {}
        self._mind: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._over = asyncio.Event()
        self._stopping = False
        self.queues = dict(queues or {})
        self.reload: ReloadView | None = None
        """The last time that the configuration was read again."""
        self.drained = True
        """After `stop`: whether every process drained (exit code 0)."""

    async def start(self) -> None:
        """Start the processes; `ready` tells when all of them work."""
        if self._runs or self._stopping:
            raise RuntimeError("the supervisor was started or stopped before")
        for service in self._beside:
            await service.start()
        for child in self._children.values():
            self._run(child)
        self._mind = asyncio.create_task(self._mind_limits(), name="recycle")

    def _run(self, child: PoolChild) -> None:
        self._runs[child] = run = asyncio.create_task(child.run())
        run.add_done_callback(lambda _: self._ran(child, run))

    def _ran(self, child: PoolChild, run: asyncio.Task[None]) -> None:
        if child in self._leaving:
            self._leaving.remove(child)
            self._runs.pop(child, None)
        error = None if run.cancelled() else run.exception()
        if error is not None and self._error is None:
            self._error = error
            self._over.set()

    async def wait(self) -> None:
        """Return after `stop`; raise RefusedToStartError when a process can't be kept running."""
        if self._runs:
            await self._over.wait()
        if self._error is not None:
            raise self._error

    async def stop(self, *, by: float) -> None:
        """SIGTERM to all, SIGKILL to those that are not gone by `by` (monotonic seconds). Again: SIGTERM again,
        which makes them hand back at once.
        """
        self._stopping = True
        if self._mind is not None:
            self._mind.cancel()
        for child in self._all():
            child.stop()
        if not self._runs:
            return
        runs = [*self._runs.values()]
        _, late = await asyncio.wait(runs, timeout=max(0.0, by + KILL_SLACK_S - time.monotonic()))
        if late:
            for child in self._all():
                child.kill()
            _, late = await asyncio.wait(runs, timeout=KILLED_S)
        self.drained = not late and all(child.drained for child in self._runs)
        for service in self._beside:
            await service.stop(by=max(by, time.monotonic()) + KILL_SLACK_S)
        self._over.set()

    def _all(self) -> Iterator[PoolChild]:
        yield from self._children.values()
        yield from self._leaving

    # -------------------------------------------------------------- replacement

    async def _mind_limits(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._look()
            except Exception:
                log.exception("whether processes are to be replaced could not be decided")

    def _look(self) -> None:
        """Of each pool, begin to replace the process that is most in need of it, unless one is being replaced."""
        by_pool: dict[str, list[PoolChild]] = {}
        for child in self._children.values():
            by_pool.setdefault(child.spec.pool, []).append(child)
        for pool, children in by_pool.items():
            if any(child.replacement.under_way for child in children):
                continue
            found = [each for child in children if (each := child.replacement.candidate()) is not None]
            if (why := recycle.choose(pool, found)) is not None:
                self._children[why.name].replacement.begin(why)

    def _told(self, event: Event) -> None:
        if isinstance(event, Recycled) and event.reverted:
            self._not_rolled(event)
        if isinstance(event, Death):
            self._orphans.ended(event.pid, event.mark)
        self._emit(event)

    def _not_rolled(self, event: Recycled) -> None:
        """A process did not start with the new configuration: the others of its pool are spared."""
        for child in self._children.values():
            if child.spec.pool == event.pool:
                child.revert()
        detail = (
            f"pool {event.pool} keeps its former configuration, process {event.process} did not start with this one"
        )
        log.error("reload: %s", detail)
        self.reload = ReloadView(at=time.time(), result="failed", detail=detail)

    def apply(self, specs: Sequence[ChildSpec], queues: Mapping[str, tuple[str, ...]]) -> Roll:
        """Run these processes from now on: those that are missing start, those that are too many drain, and those that
        would start in another way are replaced, one after the other in each pool. Returns what is to happen.
        """
        wanted = {spec.name: spec for spec in specs}
        roll = plan({name: child.spec for name, child in self._children.items()}, wanted)
        if self._stopping:
            return roll
        self.queues = dict(queues)
        for name in roll.removed:
            child = self._children.pop(name)
            self._leaving.append(child)
            child.stop(within_s=child.spec.grace_s)
        for name in (*roll.replaced, *roll.adjusted):
            self._children[name].adopt(wanted[name])
        for name in roll.added:
            self._children[name] = PoolChild(wanted[name], self._told, self._busy_until, essential=False)
            self._run(self._children[name])
        return roll

    # -------------------------------------------------------- what is known of it

    @property
    def started(self) -> bool:
        """Every process has opened its queues once."""
        return all(child.started for child in self._children.values())

    @property
    def ready(self) -> bool:
        """Every process takes jobs."""
        return not self._stopping and all(state.ok for state in self.states())

    def states(self) -> list[State]:
        """What is known about each process. No I/O."""
        return [state for child in self._children.values() for state in child.states()]

    def health(self) -> State:
        """All of `states` in one line."""
        bad = [f"{s.name}: {s.detail}" for s in self.states() if not s.ok]
        return State(self.name, not bad, "; ".join(bad) or f"{len(self._children)} processes work")

    def view(self) -> FleetView:
        """Each process, for people. No I/O."""
        processes = [view for child in self._all() for view in child.views()]
        wanted: dict[str, int] = {}
        for child in self._children.values():
            wanted[child.spec.pool] = wanted.get(child.spec.pool, 0) + 1
        return FleetView(
            pid=os.getpid(),
            mode="supervisor",
            ready=self.ready,
            pools=pools(processes, wanted, self.queues),
            processes=tuple(processes),
            reload=self.reload,
        )

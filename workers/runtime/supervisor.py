"""Keeps the processes of the pools running and forwards the drain. A Service."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence

from workers.contract import Service
from workers.runtime.pool_child import ChildSpec, PoolChild
from workers.runtime.process import State

#: How long after its own deadline a child may need to be gone, seconds; then it is killed.
KILL_SLACK_S = 2.0
#: How long the system may need to end a killed process, seconds.
KILLED_S = 5.0


class Supervisor:
    """Runs a child for each spec.

    Args:
        on_death: told the pid of each process that ended, before a successor starts.
        beside: services that start before the children and stop after them.
    """

    name = "supervisor"

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        on_death: Callable[[int], None] = lambda pid: None,
        beside: Sequence[Service] = (),
    ) -> None:
        self._children = [PoolChild(spec, on_death) for spec in specs]
        self._beside = tuple(beside)
        self._runs: list[asyncio.Task[None]] = []
        self._stopping = False
        self.drained = True
        """After `stop`: whether every process drained (exit code 0)."""

    async def start(self) -> None:
        """Start the processes; `ready` tells when all of them work."""
        if self._runs or self._stopping:
            raise RuntimeError("the supervisor was started or stopped before")
        for service in self._beside:
            await service.start()
        self._runs = [asyncio.create_task(child.run()) for child in self._children]

    async def wait(self) -> None:
        """Return after `stop`; raise RefusedToStartError when a process can't be kept running."""
        if not self._runs:
            return
        await asyncio.wait(self._runs, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for run in self._runs if run.done() and not run.cancelled() and (error := run.exception())]
        if errors:
            raise errors[0]

    async def stop(self, *, by: float) -> None:
        """SIGTERM to all, SIGKILL to those that are not gone by `by` (monotonic seconds). Again: SIGTERM again,
        which makes them hand back at once.
        """
        self._stopping = True
        for child in self._children:
            child.stop()
        if not self._runs:
            return
        _, late = await asyncio.wait(self._runs, timeout=max(0.0, by + KILL_SLACK_S - time.monotonic()))
        if late:
            for child in self._children:
                child.signal(signal.SIGKILL)
            _, late = await asyncio.wait(self._runs, timeout=KILLED_S)
        self.drained = not late and all(child.drained for child in self._children)
        for service in self._beside:
            await service.stop(by=max(by, time.monotonic()) + KILL_SLACK_S)
        for run in self._runs:  # looked at, so that a second refusal is not reported as never retrieved
            if run.done() and not run.cancelled():
                run.exception()

    @property
    def started(self) -> bool:
        """Every process has opened its queues once."""
        return all(child.started for child in self._children)

    @property
    def ready(self) -> bool:
        """Every process takes jobs."""
        return not self._stopping and all(state.ok for state in self.states())

    def states(self) -> list[State]:
        """What is known about each process. No I/O."""
        return [state for child in self._children for state in child.states()]

    def health(self) -> State:
        """All of `states` in one line."""
        bad = [f"{s.name}: {s.detail}" for s in self.states() if not s.ok]
        return State(self.name, not bad, "; ".join(bad) or f"{len(self._children)} processes work")

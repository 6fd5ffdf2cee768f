"""A runner of queues beside which the depth of its queues is watched, and told with their health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from workers.contract import Health
from workers.ops.fleet_service import Runner
from workers.ops.queue_watch import QueueWatch
from workers.queue_service import Admission
from workers.runtime.process import State

#: How old what was seen of a queue may be to be told, seconds; while Redis is away it grows older.
RECENT_S = 60.0


class Watched:
    """The runner, with a watch that starts before it and ends before it. A Runner.

    A full queue is no fault of its workers, which it needs: its check keeps its answer, and says so.
    """

    def __init__(self, runner: Runner, watch: QueueWatch, queues: Admission) -> None:
        self._runner = runner
        self._watch = watch
        self._queues = queues
        self.name = runner.name
        self.drained = True
        """See Runner."""

    async def start(self) -> None:
        """Start both."""
        await self._watch.start()
        await self._runner.start()

    async def wait(self) -> None:
        """See Runner."""
        await self._runner.wait()

    async def stop(self, *, by: float) -> None:
        """Stop both. The watch is given no time of the runner's."""
        await asyncio.gather(self._watch.stop(by=by), self._runner.stop(by=by))
        self.drained = self._runner.drained

    @property
    def started(self) -> bool:
        """See Runner."""
        return self._runner.started

    @property
    def ready(self) -> bool:
        """See Runner."""
        return self._runner.ready

    def states(self) -> list[State]:
        """The runner's; those of a full queue, by its own name or behind its process's and a dot, say so."""
        now = time.monotonic()
        full = {
            queue: state.pressure.reason
            for queue, state in self._queues.states().items()
            if state.pressure.full and now - state.at <= RECENT_S
        }
        return [_told(state, full) for state in self._runner.states()]

    def health(self) -> Health:
        """The runner's."""
        return self._runner.health()


def _told(state: State, full: Mapping[str, str]) -> State:
    reason = full.get(state.name) or full.get(state.name.rpartition(".")[2])
    return replace(state, detail=f"{state.detail}; full: {reason}") if reason else state

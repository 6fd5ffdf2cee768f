"""A runner of queues beside which the depth of its queues is watched, and told with their health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from workers.contract import Health, Service
from workers.ops.fleet_service import Runner
from workers.ops.queue_watch import QueueWatch
from workers.queue_service import Admission
from workers.runtime.process import State

#: How old what was seen of a queue may be to be told, seconds; while Redis is away it grows older.
RECENT_S = 60.0


class Watched:
    """The runner, with what starts before it and ends before it. A Runner.

    A full queue is no fault of its workers, which it needs: its check keeps its answer, and says so.

    Args:
        watch: keeps `queues` recent.
        notes: what else is to be known of queues, by name.
        beside: what else lives as long.
    """

    def __init__(
        self,
        runner: Runner,
        watch: QueueWatch,
        queues: Admission,
        *,
        notes: Sequence[Callable[[], Mapping[str, str]]] = (),
        beside: Sequence[Service] = (),
    ) -> None:
        self._runner = runner
        self._beside = (watch, *beside)
        self._queues = queues
        self._notes = tuple(notes)
        self.name = runner.name
        self.drained = True
        """See Runner."""

    async def start(self) -> None:
        """Start all."""
        for service in self._beside:
            await service.start()
        await self._runner.start()

    async def wait(self) -> None:
        """See Runner."""
        await self._runner.wait()

    async def stop(self, *, by: float) -> None:
        """Stop all. What is beside the runner is given no time of the runner's."""
        await asyncio.gather(*(service.stop(by=by) for service in (*self._beside, self._runner)))
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
        """The runner's. Those of a queue, by its own name or behind its process's and a dot, say what is known of
        it."""
        now = time.monotonic()
        full = {
            queue: f"full: {state.pressure.reason}"
            for queue, state in self._queues.states().items()
            if state.pressure.full and now - state.at <= RECENT_S
        }
        notes = [full, *(note() for note in self._notes)]
        return [_told(state, notes) for state in self._runner.states()]

    def health(self) -> Health:
        """The runner's."""
        return self._runner.health()


def _told(state: State, notes: Sequence[Mapping[str, str]]) -> State:
    queue = state.name.rpartition(".")[2]
    said = [words for note in notes if (words := note.get(state.name) or note.get(queue))]
    return replace(state, detail="; ".join([state.detail, *said])) if said else state

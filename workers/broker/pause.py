"""Sees that a queue is paused for everyone. BullMQ keeps it in Redis, and workers idle without a word: a shutdown of
the Node stack leaves its queues so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from workers.broker.backend import FleetBackend


class PauseWatch:
    """Looks at a queue's global pause.

    Args:
        on_change: told true when the queue is found paused, false when that is over.
        on_error: told a failure: the error, where, a job's id or nothing.
        every_s: seconds between two looks.
    """

    def __init__(
        self,
        backend: FleetBackend,
        on_change: Callable[[bool], None],
        on_error: Callable[[BaseException, str, str], None],
        every_s: float,
    ) -> None:
        self._backend = backend
        self._on_change = on_change
        self._on_error = on_error
        self._every_s = every_s
        self.paused = False
        """What was found last."""

    async def run(self) -> None:
        """Look for ever; the owner cancels it."""
        while True:
            try:
                paused = bool(await self._backend.isPaused())
            except Exception as error:
                self._on_error(error, "pause", "")
            else:
                if paused != self.paused:
                    self.paused = paused
                    self._on_change(paused)
            await asyncio.sleep(self._every_s)

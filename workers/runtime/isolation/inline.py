"""Isolation `async`: the processor runs on the event loop, beside all others of its process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from workers.contract import JobContext
from workers.runtime.isolation import forks, left_behind
from workers.runtime.isolation.call import Call, RunContext
from workers.runtime.isolation.processors import checked


class Inline:
    """Calls the processor where it is.

    Args:
        process: the module's processor, an `async def`.
    """

    def __init__(self, process: Callable[[Any, JobContext], Awaitable[Any]]) -> None:
        self._process = process
        self._queue = ""
        self._running: set[RunContext] = set()
        forks.install()
        left_behind.watch(self)

    def left_behind(self) -> tuple[str, int]:
        """See left_behind.Source."""
        return self._queue, sum(context.closed for context in self._running)

    async def run(self, call: Call) -> Any:
        """See Isolator."""
        self._queue = call.queue
        self._running.add(call.context)
        try:
            return checked(await self._process(call.task, call.context))
        finally:
            self._running.discard(call.context)

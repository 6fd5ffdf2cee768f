"""Isolation `async`: the processor runs on the event loop, beside all others of its process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from workers.contract import JobContext
from workers.runtime.isolation import forks
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.processors import checked


class Inline:
    """Calls the processor where it is.

    Args:
        process: the module's processor, an `async def`.
    """

    def __init__(self, process: Callable[[Any, JobContext], Awaitable[Any]]) -> None:
        self._process = process
        forks.install()

    async def run(self, call: Call) -> Any:
        """See Isolation."""
        return checked(await self._process(call.task, call.context))

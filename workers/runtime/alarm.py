"""One timer for all runs of a loop, since nearly none of them lives to see its own.

A timer of asyncio's for each run costs more than all else that driving a short run takes, and the time-out of an hour
is cancelled after milliseconds. There are no more sleepers than slots, so that looking through them is cheap.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable


class Alarm:
    """The times at which sleepers want to be woken. Belongs to the loop that it was last used on."""

    __slots__ = ("_loop", "_next", "_sleepers", "_timer")

    def __init__(self) -> None:
        self._sleepers: dict[Callable[[], None], float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf
        """When the timer fires."""

    def set(self, ring: Callable[[], None], when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Call `ring` once on the running loop at this time (monotonic seconds), instead of at the time that it was set
        to before.
        """
        if loop is not self._loop:
            self._loop, self._sleepers, self._next = loop, {}, math.inf
        self._sleepers[ring] = when
        if when < self._next:
            self._arm(when, loop)

    def clear(self, ring: Callable[[], None]) -> None:
        """Don't call it, if it has not been called."""
        self._sleepers.pop(ring, None)

    def _arm(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = loop.call_later(max(0.0, when - time.monotonic()), self._due, loop)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._next = None, math.inf
        now = time.monotonic()
        for ring in [ring for ring, when in self._sleepers.items() if when <= now]:
            del self._sleepers[ring]
            ring()
        if self._sleepers:
            self._arm(min(self._sleepers.values()), loop)

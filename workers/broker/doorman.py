"""One at a time through the door: among a worker's free slots, one fetches or waits for the marker, the rest queue.

With one fetch in flight an idle worker of 1,000 slots costs Redis no more than one of a single slot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from workers.broker.activation import Activation
from workers.broker.backend import Fetched, FleetBackend, now_ms
from workers.broker.endpoint import MAX_BLOCK_S
from workers.broker.settle import find_by_token

T = TypeVar("T")

#: Waits between tries while Redis is away, seconds: the first and the longest. Jittered, so that a fleet spreads out.
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 3.0
#: The longest wait for a rate limit before asking again, seconds: the limit may have been lifted (Node's default).
MAX_LIMIT_S = 30.0
#: The shortest block that servers since 7.0.8 honour, seconds.
MIN_BLOCK_S = 0.001


def backoff_s(failures: int) -> float:
    """The wait after so many failures in a row: doubling, at most 3 s, half of it at random."""
    top: float = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 16))
    return top * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not security


class Doorman:
    """Hands activations to slots, until it is closed."""

    def __init__(
        self,
        backend: FleetBackend,
        drain_delay_s: float,
        on_error: Callable[[BaseException, str, str], None],
        on_up: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._drain_delay_s = drain_delay_s
        self._on_error = on_error
        self._on_up = on_up
        self._door = asyncio.Lock()
        self._closed = asyncio.Event()
        self._idle = False
        self._due_at = 0
        self._failures = 0

    def close(self) -> None:
        """No more jobs; whoever waits is let go. A fetch that is under way still delivers its job."""
        self._closed.set()

    def note(self, fetched: Fetched) -> None:
        """Learn from a fetch-next that found nothing: the next caller waits instead of asking again."""
        if fetched.activation is None and fetched.due_at:
            self._idle, self._due_at = True, fetched.due_at

    async def next(self, token: str) -> Activation | None:
        """The next job for this slot; None once closed."""
        async with self._door:
            while not self._closed.is_set():
                try:
                    fetched = await self._look(token)
                except Exception as error:
                    fetched = await self._after(error, token)
                if fetched is not None and fetched.activation is not None:
                    return fetched.activation
        return None

    async def _look(self, token: str) -> Fetched | None:
        if self._idle and not await self._marker():
            return None
        fetched = await self._backend.fetch(token)
        self._up()
        self._idle = fetched.activation is None and not fetched.limited_ms
        self._due_at = fetched.due_at
        if fetched.limited_ms:
            await self.unless_closed(asyncio.sleep(min(MAX_LIMIT_S, fetched.limited_ms / 1000)))
        return fetched

    async def _marker(self) -> bool:
        """Wait until there may be a job; False when closed meanwhile, or the marker names a later time."""
        at = await self.unless_closed(self._backend.wait_for_marker(self._block_s(), precisely=self._due_at > 0))
        if self._closed.is_set():
            return False
        if at is not None and at > now_ms():
            self._due_at = at
            return False
        return True

    def _block_s(self) -> float:
        if not self._due_at:
            return max(MIN_BLOCK_S, self._drain_delay_s)
        return min(MAX_BLOCK_S, max(MIN_BLOCK_S, (self._due_at - now_ms()) / 1000))

    async def _after(self, error: Exception, token: str) -> Fetched | None:
        """A fetch or a wait failed: wait a little, then see whether a fetch took a job although its reply was lost."""
        self._failures += 1
        self._on_error(error, "fetch", "")
        await self.unless_closed(asyncio.sleep(backoff_s(self._failures)))
        try:
            found = await find_by_token(self._backend, token)
        except Exception:
            return None  # still away; the next fetch says so
        self._idle, self._due_at = False, 0
        return Fetched(activation=found)

    def _up(self) -> None:
        if self._failures:
            self._failures = 0
            self._on_up()

    async def unless_closed(self, work: Awaitable[T]) -> T | None:
        """The result of `work`, or None when the door closes first; the work is cancelled then."""
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            return None
        finally:
            closing.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

"""One at a time through the door: among a worker's free slots, one fetches or waits for the marker, the rest queue.

With one fetch in flight an idle worker of 1,000 slots costs Redis no more than one of a single slot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from workers.broker.activation import Activation
from workers.broker.backend import Fetched, FleetBackend, now_ms
from workers.broker.client import NotSentError
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


@dataclass(slots=True)
class _Doubt:
    """A fetch of this slot whose reply was lost, until it is known what it did."""

    error: Exception | None = None


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
            doubt = _Doubt()
            while not self._closed.is_set():
                try:
                    found = await self._look(token, doubt)
                    if found is not None:
                        return found
                except Exception as error:
                    await self._after(error)
            return await self._taken(token, doubt) if doubt.error is not None else None

    async def _look(self, token: str, doubt: _Doubt) -> Activation | None:
        """Find out what an earlier fetch did, else wait for the marker if there was nothing to fetch, then fetch."""
        if doubt.error is not None:
            await self._backend.bury(doubt.error)
            found = await find_by_token(self._backend, token)
            doubt.error = None
            self._up()
            if found is not None:
                return found
        if self._idle and not await self._marker():
            return None
        try:
            fetched = await self._backend.fetch(token)
        except NotSentError:
            raise
        except Exception as error:
            doubt.error = error
            raise
        self._up()
        self._idle = fetched.activation is None and not fetched.limited_ms
        self._due_at = fetched.due_at
        if fetched.limited_ms:
            await self.unless_closed(asyncio.sleep(min(MAX_LIMIT_S, fetched.limited_ms / 1000)))
        return fetched.activation

    async def _taken(self, token: str, doubt: _Doubt) -> Activation | None:
        """Closed while it is unknown whether a fetch took a job: one more look, so that it can be handed back."""
        try:
            await self._backend.bury(doubt.error or Exception())
            return await find_by_token(self._backend, token)
        except Exception as error:
            self._on_error(error, "fetch", "")
            return None

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

    async def _after(self, error: Exception) -> None:
        """A fetch or a wait failed: say so and wait a little. The next look starts with a fetch."""
        self._failures += 1
        self._idle, self._due_at = False, 0
        self._on_error(error, "fetch", "")
        await self.unless_closed(asyncio.sleep(backoff_s(self._failures)))

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

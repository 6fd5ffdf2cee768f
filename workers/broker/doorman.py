"""One at a time through the door: among a worker's free slots, one fetches or waits for the marker, the rest queue.

With one fetch in flight an idle worker of 1,000 slots costs Redis no more than one of a single slot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from workers.broker.activation import Activation
from workers.broker.backend import Fetched, FleetBackend, now_ms
from workers.broker.client import NotSentError
from workers.broker.endpoint import MAX_BLOCK_S
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.settle import find_by_token

T = TypeVar("T")

#: The shortest block that servers since 7.0.8 honour, seconds.
MIN_BLOCK_S = 0.001


@dataclass(slots=True)
class _Doubt:
    """A fetch of this slot whose reply was lost, until it is known what it did."""

    error: Exception | None = None


class Doorman:
    """Hands activations to slots, until it is closed.

    Args:
        drain_delay_s: how long to block for the next marker where no delayed job is known; MAX_BLOCK_S at most.
        on_error: told every failure: the error, where, a job's id or nothing.
        on_up: called when Redis has answered after a failure.
        max_limit_s: the longest wait for a rate limit before asking again.
        reconnect: the waits between tries while Redis is away.
        on_drained: called when there is nothing more to fetch, once until there was something again.
    """

    def __init__(
        self,
        backend: FleetBackend,
        drain_delay_s: float,
        on_error: Callable[[BaseException, str, str], None],
        on_up: Callable[[], None],
        *,
        max_limit_s: float = 30.0,
        reconnect: Reconnect = RECONNECT,
        on_drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend = backend
        self._max_limit_s = max_limit_s
        self._reconnect = reconnect
        self._on_drained = on_drained
        self._drain_delay_s = drain_delay_s
        self._on_error = on_error
        self._on_up = on_up
        self._door = asyncio.Lock()
        self._closed = asyncio.Event()
        self._waiting: asyncio.Future[Any] | None = None
        self._idle = False
        self._due_at = 0
        self._failures = 0
        self._drained = False
        self._limited_until = 0.0

    def close(self) -> None:
        """No more jobs; whoever waits is let go. A fetch that is under way still delivers its job."""
        self._closed.set()
        if self._waiting is not None:
            self._waiting.cancel()

    @property
    def limited(self) -> bool:
        """A rate limit lets no job through now."""
        return time.monotonic() < self._limited_until

    def limit(self, ms: int) -> None:
        """Let nobody in for so long."""
        self._limited_until = max(self._limited_until, time.monotonic() + ms / 1000)

    def note(self, fetched: Fetched) -> None:
        """Learn from an ending: the next caller waits where there is nothing to fetch, instead of asking again."""
        if fetched.activation is not None:
            self._drained = False
        elif fetched.limited_ms:
            self.limit(fetched.limited_ms)
        elif fetched.due_at:
            self._found_nothing(fetched.due_at)

    def _found_nothing(self, due_at: int) -> None:
        self._idle, self._due_at = True, due_at
        if not self._drained:
            self._drained = True
            self._on_drained()

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
        if self.limited:
            await self._wait_out()
            return None
        woken = self._idle
        if woken and not await self._marker():
            return None
        try:
            fetched = await self._backend.fetch(token)
        except NotSentError:
            raise
        except Exception as error:
            doubt.error = error
            raise
        self._up()
        # With a job the script leaves a marker: where one has woken us, the next caller had better ask for that first.
        self._idle, self._due_at = woken and fetched.activation is not None, 0
        if fetched.activation is None and not fetched.limited_ms:
            self._found_nothing(fetched.due_at)
        self.note(fetched)
        return fetched.activation

    async def _wait_out(self) -> None:
        """Wait for the end of the rate limit, or for a part of it and ask whether it was lifted."""
        left_s = self._limited_until - time.monotonic()
        await self.unless_closed(asyncio.sleep(min(self._max_limit_s, left_s)))
        if self.limited and not self._closed.is_set():
            left_ms = await self._backend.limit_left_ms()  # 0 too where it is a rate's: the fetch says its own
            self._limited_until = time.monotonic() + left_ms / 1000

    async def _taken(self, token: str, doubt: _Doubt) -> Activation | None:
        """Closed while it is unknown whether a fetch took a job: one more look, so that it can be handed back."""
        try:
            await self._backend.bury(doubt.error or Exception())
            return await find_by_token(self._backend, token)
        except Exception as error:
            self._on_error(error, "fetch", "")
            return None

    async def _marker(self) -> bool:
        """Wait until there may be a job; False when closed or limited meanwhile, or where a later time is named."""
        at = await self.unless_closed(self._backend.wait_for_marker(self._block_s(), precisely=self._due_at > 0))
        if self._closed.is_set():
            return False
        if at is not None and at > now_ms():
            self._due_at = at
            return False
        if self.limited:  # since we began to wait; the marker is taken, so the next look must fetch
            self._idle = False
            return False
        return True

    def _block_s(self) -> float:
        wait_s = (self._due_at - now_ms()) / 1000 if self._due_at else self._drain_delay_s
        return min(MAX_BLOCK_S, max(MIN_BLOCK_S, wait_s))

    async def _after(self, error: Exception) -> None:
        """A fetch or a wait failed: say so and wait a little. The next look starts with a fetch."""
        self._failures += 1
        self._idle, self._due_at = False, 0
        self._on_error(error, "fetch", "")
        await self.unless_closed(asyncio.sleep(self._reconnect.wait_s(self._failures)))

    def _up(self) -> None:
        self._failures = 0
        self._on_up()  # also where it was not the doorman who found Redis away

    async def unless_closed(self, work: Awaitable[T]) -> T | None:
        """The result of `work`, or None when the door closes first; the work is cancelled then."""
        waiting: asyncio.Future[T] = asyncio.ensure_future(work)
        self._waiting = waiting
        if self._closed.is_set():
            waiting.cancel()
        try:
            return await waiting
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not self._closed.is_set() or (caller is not None and caller.cancelling()):
                raise
            return None
        finally:
            self._waiting = None

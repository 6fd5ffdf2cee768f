"""Passes events to listeners. They are guarded: telemetry can't break a job."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from workers.broker.events import Event

log = logging.getLogger(__name__)

Listener: TypeAlias = Callable[[Event], Awaitable[None] | None]

#: Events that an asynchronous listener may be behind before it misses the next ones.
MAX_BEHIND = 10_000


class Emitter:
    """Passes each event to every listener; a listener that fails is logged and counted, never felt."""

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []
        self.failures = 0
        """Exceptions that listeners have raised so far, and events that they missed."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the returned function removes it.

        What an asynchronous listener returns is awaited in a task of its own, one event after the other. One that is
        MAX_BEHIND events behind misses events until it has caught up.
        """
        subscription = _Subscription(listener, self._failed)
        self._subscriptions.append(subscription)

        def remove() -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                subscription.end()

        return remove

    def __call__(self, event: Event) -> None:
        for subscription in tuple(self._subscriptions):
            subscription.tell(event)

    async def close(self, timeout_s: float) -> None:
        """Let the asynchronous listeners deal with what they were told, for so long at most. What is left then is
        dropped and counted, as are events that they are told later.
        """
        busy = {subscription.task for subscription in self._subscriptions if subscription.task is not None}
        if busy:
            await asyncio.wait(busy, timeout=timeout_s)
        for subscription in self._subscriptions:
            subscription.end()
        if busy:
            await asyncio.wait(busy, timeout=1.0)

    def _failed(self, event: Event, error: BaseException | None, *, quiet: bool = False) -> None:
        self.failures += 1
        if not quiet:
            problem = "missed" if error is None else "failed on"
            log.error("an event listener %s %s", problem, type(event).__name__, exc_info=error)


class _Subscription:
    """One listener, and what it has still to deal with."""

    def __init__(self, listener: Listener, on_failure: Callable[..., None]) -> None:
        self._listener = listener
        self._on_failure = on_failure
        self._behind: deque[tuple[Event, Awaitable[None]]] = deque()
        self._ended = False
        self._missing = False
        self.task: asyncio.Task[None] | None = None
        """Deals with what is behind; None while nothing is."""

    def tell(self, event: Event) -> None:
        try:
            answer: object = self._listener(event)
        except BaseException as error:  # a CancelledError or SystemExit of a listener's own would end a slot
            self._on_failure(event, error)
            return
        if not inspect.isawaitable(answer):
            return
        if self._ended or len(self._behind) >= MAX_BEHIND:
            self._miss(event, answer)
            return
        if self.task is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # told from outside of the loop: there is nothing that could await it
                self._miss(event, answer)
                return
            self.task = loop.create_task(self._catch_up())
        self._behind.append((event, answer))

    def end(self) -> None:
        """Drop what was not begun, and cancel what was."""
        self._ended = True
        while self._behind:
            self._miss(*self._behind.popleft())
        if self.task is not None:
            self.task.cancel()

    async def _catch_up(self) -> None:
        try:
            while self._behind:
                event, answer = self._behind.popleft()
                try:
                    await answer
                except asyncio.CancelledError as error:
                    if self._ended:
                        raise
                    self._on_failure(event, error)
                except GeneratorExit:  # thrown in when the loop is closed
                    raise
                except BaseException as error:
                    self._on_failure(event, error)
            self._missing = False
        finally:
            self.task = None

    def _miss(self, event: Event, answer: Awaitable[Any]) -> None:
        if inspect.iscoroutine(answer):
            answer.close()
        self._on_failure(event, None, quiet=self._missing)  # one line says it
        self._missing = True

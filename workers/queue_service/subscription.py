"""One listener's events: first those that it has missed, then those that come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from workers.broker.batch import UNANSWERED
from workers.broker.event_stream import EventStream, QueueEvent, order
from workers.broker.result import message
from workers.queue_service.errors import QueueUnavailableError

#: Events that wait for a listener; of more, the oldest are dropped, and counted.
MAX_WAITING = 1000
#: Characters of an error that are shown.
MAX_DETAIL = 300


class Subscription:
    """An asynchronous iterator, made by `Feed.listen`. It ends when it is closed, or the feed is. A task that waits for
    an event may be cancelled: no event is lost by that.

    Args:
        queues: what is heard.
        after: what has been heard of already, by queue.
        stream: reads what was missed.
        begin: see Feed; called once.
        leave: told when it is closed.
    """

    def __init__(
        self,
        queues: tuple[str, ...],
        after: Mapping[str, str],
        stream: EventStream,
        *,
        begin: Callable[[Sequence[str]], Awaitable[dict[str, str]]],
        leave: Callable[[Subscription], None],
    ) -> None:
        self.queues = frozenset(queues)
        """See above."""
        self.dropped = 0
        """Events that were not taken in time, in all."""
        self._order = queues
        self._missed = dict(after)
        self._read_from: str | None = None
        self._stream = stream
        self._begin = begin
        self._leave = leave
        self._began: dict[str, str] | None = None
        self._ready: deque[QueueEvent] = deque()
        self._waiting: deque[QueueEvent] = deque()
        self._lost: dict[str, int] = {}
        self._woken = asyncio.Event()
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QueueEvent:
        """The next event.

        Raises:
            QueueUnavailableError: what was missed can't be read; asked again it goes on.
        """
        while True:
            if self._is_over:
                raise StopAsyncIteration
            if self._ready:
                return self._ready.popleft()
            if self._began is None or self._missed:
                await self._catch_up()
            elif self._lost:
                queue, count = self._lost.popitem()
                return QueueEvent(queue, "", "dropped", None, {"count": count})
            elif self._waiting:
                return self._waiting.popleft()
            else:
                self._woken.clear()
                await self._woken.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    async def aclose(self) -> None:
        """See `end`."""
        self.end()

    async def start(self) -> None:
        """Hear from now on, not only from the first time that an event is asked for.

        Raises:
            QueueUnavailableError
        """
        if self._began is None:
            await self._catch_up()

    def end(self) -> None:
        """Hear no more. Legal at any time, also twice."""
        if not self._is_over:
            self._is_over = True
            self._woken.set()
            self._leave(self)

    def hear(self, event: QueueEvent) -> None:
        """Take an event; called by the feed."""
        if self._began is None or self._is_over:
            return
        if len(self._waiting) >= MAX_WAITING:
            oldest = self._waiting.popleft()
            self._lost[oldest.queue] = self._lost.get(oldest.queue, 0) + 1
            self.dropped += 1
        self._waiting.append(event)
        self._woken.set()

    async def _catch_up(self) -> None:
        """One step of it: begin, or read some of what was missed in one queue."""
        try:
            if self._began is None:
                began = await self._begin(self._order)
                self._began = began
                return
            queue, after = next(iter(self._missed.items()))
            until = self._began[queue]
            gap = queue != self._read_from and await self._stream.is_gap(queue, after)
            found = await self._stream.between(queue, after, until) if order(after) < order(until) else []
        except UNANSWERED as error:
            raise QueueUnavailableError(f"events can't be read: {message(error, MAX_DETAIL)}") from error
        if gap:
            self._ready.append(QueueEvent(queue, "", "gap", None, {"after": after}))
        self._ready.extend(found)
        self._read_from = queue
        if found:
            self._missed[queue] = found[-1].id
        else:
            del self._missed[queue]

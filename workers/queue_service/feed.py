"""What happens in the queues, as it happens, for any number of listeners: one connection reads for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workers.broker.batch import UNANSWERED
from workers.broker.event_stream import EventStream, QueueEvent, is_wrong_type, order
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.result import message
from workers.queue_service.errors import InvalidRequestError, RefusedError
from workers.queue_service.subscription import Subscription

log = logging.getLogger(__name__)

#: How long one read waits for an event, ms: a dead connection is noticed soon after.
BLOCK_MS = 5000
#: Listeners at one time, and queues of one.
MAX_LISTENERS, MAX_QUEUES = 1000, 200
#: Characters of an error that are logged.
MAX_DETAIL = 300


class Feed:
    """Hands on events. Belongs to one event loop; connects when the first listener comes, and is idle without any.

    Args:
        connect: makes a client of `Endpoint.listening`; the feed closes it.
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        reconnect: the waits while Redis is away.
    """

    def __init__(
        self, connect: Callable[[], Any], client: Any, prefix: str, *, reconnect: Reconnect = RECONNECT
    ) -> None:
        self._connect = connect
        self._prefix = prefix
        self._stream = EventStream(client, prefix)
        self._reconnect = reconnect
        self._listeners: set[Subscription] = set()
        self._at: dict[str, str] = {}
        self._bad: set[str] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._is_closed = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._listeners)

    def listen(self, queues: Sequence[str], after: Mapping[str, str] | None = None) -> Subscription:
        """What happens in these queues from now on, or after these events, by queue. Use it with `async with`, or close
        it.

        Raises:
            InvalidRequestError: too many queues, or no id of an event.
            RefusedError: there are too many listeners already, or the feed is closed.
        """
        names = tuple(dict.fromkeys(queues))
        if not 0 < len(names) <= MAX_QUEUES:
            raise InvalidRequestError("queues", f"expected 1 to {MAX_QUEUES} queues")
        wanted = {queue: event_id for queue, event_id in (after or {}).items() if queue in names and event_id != "$"}
        for event_id in wanted.values():
            try:
                order(event_id)
            except ValueError as error:
                raise InvalidRequestError("after", str(error)) from None
        if self._is_closed:
            raise RefusedError("no more events are handed on: the service is closed")
        if len(self._listeners) >= MAX_LISTENERS:
            raise RefusedError(f"{MAX_LISTENERS:,} listen already: try again later")
        listener = Subscription(names, wanted, self._stream, begin=self._begin, leave=self._leave)
        self._listeners.add(listener)
        return listener

    async def close(self) -> None:
        """End all listeners and disconnect. Legal at any time, also twice."""
        self._is_closed = True
        for listener in list(self._listeners):
            listener.end()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _begin(self, queues: Sequence[str]) -> dict[str, str]:
        """Where each of these queues is read at: what comes behind it is handed on from this moment."""
        unread = [queue for queue in queues if queue not in self._at]
        last = await self._stream.last(unread) if unread else {}
        for queue in unread:
            self._at.setdefault(queue, last[queue])
            self._changed.set()
        if self._task is None and self._listeners:
            self._task = asyncio.create_task(self._read(), name="queue-events")
        return {queue: self._at[queue] for queue in queues}

    def _leave(self, listener: Subscription) -> None:
        self._listeners.discard(listener)
        heard = {queue for each in self._listeners for queue in each.queues}
        for queue in self._at.keys() - heard:
            del self._at[queue]
            self._bad.discard(queue)
        if not self._listeners and self._task is not None:
            task, self._task = self._task, None
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    async def _read(self) -> None:
        """Read for ever, whatever becomes of Redis."""
        while True:
            client = self._connect()
            try:
                await self._read_on(EventStream(client, self._prefix))
            except Exception as error:
                self._failures += 1
                if self._failures == 1:
                    log.warning("the queues' events can't be read: %s; trying again", message(error, MAX_DETAIL))
                await asyncio.sleep(self._reconnect.wait_s(self._failures))
            finally:
                await client.aclose()

    async def _read_on(self, stream: EventStream) -> None:
        """Read by one connection until the queues change: then it is in the midst of a read, and of no more use."""
        while True:
            self._changed.clear()
            places = {queue: at for queue, at in self._at.items() if queue not in self._bad}
            if not places:
                await self._changed.wait()
                continue
            reading = asyncio.create_task(stream.read(places, block_ms=BLOCK_MS))
            changing = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait({reading, changing}, return_when=asyncio.FIRST_COMPLETED)
                is_done = reading.done()
            finally:
                changing.cancel()
                reading.cancel()
                await asyncio.wait({reading, changing})
            if not is_done:
                return
            await self._take(reading)
            if self._failures:
                log.info("the queues' events can be read again")
                self._failures = 0

    async def _take(self, reading: asyncio.Task[list[QueueEvent]]) -> None:
        try:
            events = reading.result()
        except UNANSWERED as error:
            if not is_wrong_type(error):
                raise
            for queue, why in (await self._stream.unreadable(self._at)).items():
                self._bad.add(queue)
                self._hand_on(QueueEvent(queue, "", "unreadable", None, {"error": why}))
            return
        for each in events:
            if each.queue in self._at:
                self._at[each.queue] = each.id
            self._hand_on(each)

    def _hand_on(self, event: QueueEvent) -> None:
        for listener in self._listeners:
            if event.queue in listener.queues:
                listener.hear(event)

"""Events of queues as server-sent events (WHATWG HTML, chapter 9.2), one connection to Redis for all who listen.

A listener that reads too slowly loses events, and is told how many: `event: dropped`. After a break a browser sends
`Last-Event-ID`, and gets what it has missed as far as Redis still has it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping

from aiohttp import web

from workers.broker.event_stream import QueueEvent
from workers.ops.api.operation import Asked
from workers.ops.api.problem import ApiError

#: Seconds without an event after which a comment tells proxies, and us, that both sides are still there.
HEARTBEAT_S = 15.0
#: When a client that is refused may come again, seconds.
LATER_S = 10.0
#: Seconds that a client may take to read what it was sent.
WRITE_TIMEOUT_S = 10.0
#: Characters of a `Last-Event-ID`.
MAX_PLACE = 16_384
_KIND = re.compile(r"[a-z][a-z-]{0,39}")
_ID = re.compile(r"\d{1,20}-\d{1,20}")


class Streams:
    """All who listen.

    Args:
        most: how many at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[asyncio.Task[object]] = set()
        self._closed = False

    @property
    def open(self) -> int:
        """How many listen."""
        return len(self._open)

    async def serve(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        """Tell one client what happens, until it goes or the server stops.

        Raises:
            ApiError: 503, as many listen as may, or the server stops.
        """
        if self._closed or len(self._open) >= self._most:
            raise ApiError(503, "too-many-streams", "as many listen as may (api.max_streams)", retry_after_s=LATER_S)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        self._open.add(task)
        try:
            return await self._tell(request, asked)
        finally:
            self._open.discard(task)

    def close(self) -> None:
        """End all streams. Legal twice."""
        self._closed = True
        for task in tuple(self._open):
            task.cancel()

    async def _tell(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        service = asked.service
        queues = list(asked.query.queue) or await service.queues()
        after = _after(request.headers.get("Last-Event-ID", ""))
        source = service.events(queues, after)
        answer = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await answer.prepare(request)
        seen = dict(after)
        pending: asyncio.Future[QueueEvent] | None = None
        try:
            await answer.write(b"retry: 3000\n\n")
            while True:
                pending = pending or asyncio.ensure_future(source.__anext__())
                done, _ = await asyncio.wait({pending}, timeout=HEARTBEAT_S)
                if not done:
                    await _write(answer, b": still here\n\n")
                    continue
                event = pending.result()
                pending = None
                if event.id:
                    seen[event.queue] = event.id
                await _write(answer, _frame(event, seen))
        except (StopAsyncIteration, ConnectionError, TimeoutError):
            return answer
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.wait({pending})
            await source.aclose()


async def _write(answer: web.StreamResponse, chunk: bytes) -> None:
    """Send, but don't wait for ever for a client that doesn't read."""
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await answer.write(chunk)


def _frame(event: QueueEvent, seen: Mapping[str, str]) -> bytes:
    """One event. Its id says how far each queue was read, so that any of them may be resumed; JSON has no line breaks,
    so nothing in a job can begin a field of its own.
    """
    place = json.dumps(seen, separators=(",", ":"), ensure_ascii=True)
    kind = event.event if _KIND.fullmatch(event.event) else "other"
    return f"id: {place}\nevent: {kind}\ndata: {json.dumps(event.json())}\n\n".encode()


def _after(place: str) -> dict[str, str]:
    """How far each queue was read; nothing for what is none of ours."""
    try:
        told = json.loads(place) if 0 < len(place) <= MAX_PLACE else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {name: at for name, at in told.items() if isinstance(at, str) and _ID.fullmatch(at)}

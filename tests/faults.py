"""A TCP proxy in front of Redis that breaks connections where a test wants it: between two bytes, two messages, or a
request and its reply. Whatever is not broken passes unchanged and in order. What is to break: `fault_plan`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from tests.fault_plan import Break, Direction, FaultPlan, Match
from tests.wire import Messages, Request, WireError, read_request

CHUNK = 65_536  # bytes read at once
KEPT = 50_000  # connection attempts that are remembered


class FaultProxy(FaultPlan):
    """Listens on loopback from `start` to `stop` and passes on to one server. Works in the running event loop."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.target = (host, port)
        self.port = 0
        """Where it listens; known after `start`, and kept from then on."""
        self.attempts: deque[float] = deque(maxlen=KEPT)
        """When clients connected, monotonic seconds."""
        self.problems: list[str] = []
        """What the proxy could not do; empty, or the test shows nothing."""
        self.links: dict[int, Link] = {}
        """The open connections by number."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break every connection and stop listening. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> FaultProxy:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    def refuse(self) -> None:
        """Reset new connections as soon as they come, until `heal`, and all others now."""
        self.refusing = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections (RST)."""
        for link in tuple(self.links.values()):
            link.reset()

    def link_of(self, match: Match) -> Link:
        """The open connection that sent the latest request that matches.

        Raises:
            LookupError: there is none.
        """
        for request in reversed(self.requests):
            if match(request) and request.link in self.links:
                return self.links[request.link]
        raise LookupError("no open connection has sent such a request")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts.append(time.monotonic())
        self._count += 1
        link = Link(self, self._count, reader, writer)
        if self.refusing:
            link.reset()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.links[link.number] = link
        try:
            await link.run()
        except WireError as error:
            self.problems.append(f"connection {link.number}: {error}")
        except asyncio.CancelledError:
            pass  # stopped; the server's own task has nobody to tell
        finally:
            link.reset()
            del self.links[link.number]
            self._tasks.discard(task)


class Link:
    """One client's connection and ours to the server for it."""

    def __init__(
        self, proxy: FaultProxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self._proxy = proxy
        self._client = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._awaiting: deque[Break | None] = deque()
        self._dead: set[Direction] = set()
        self._ended = asyncio.Event()

    def reset(self) -> None:
        """Break it: RST to the client, and nothing more for the server than it was given."""
        _reset(self._client[1])
        self._ended.set()

    def half_open(self, direction: Direction) -> None:
        """Swallow all that comes in this direction from now on, for good."""
        self._dead.add(direction)

    async def run(self) -> None:
        """Pass messages until either side hangs up or the connection is broken."""
        if not self._proxy.swallows("up"):
            try:
                self._server = await asyncio.open_connection(*self._proxy.target, limit=CHUNK)
            except OSError:
                return  # the server is away: the client is reset
        pumps = [asyncio.create_task(self._up())]
        if self._server is not None:
            pumps.append(asyncio.create_task(self._down(*self._server)))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({*pumps, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*pumps, ended):
                task.cancel()
            if self._server is not None:
                self._server[1].close()  # after what is still to be sent
            outcomes = await asyncio.gather(*pumps, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, OSError | asyncio.CancelledError):
                raise outcome

    async def _up(self) -> None:
        messages = Messages()
        async for data in _pieces(self._client[0]):
            await self._proxy.let_through("up")
            for message in messages.feed(data):
                if not self._ended.is_set():
                    await self._ask(read_request(self.number, message), message)

    async def _ask(self, request: Request, message: bytes) -> None:
        planned = self._proxy.note(request)
        point = planned.point if planned is not None else None
        if planned is not None and point == "before_write":
            return self._break(planned)
        if planned is not None and point == "late":
            return await self._lag(planned, request, message)
        self._awaiting.append(planned)
        request.passed = await self._write("up", message)
        if planned is not None and point == "after_write":
            self._break(planned)

    async def _lag(self, planned: Break, request: Request, message: bytes) -> None:
        """The client is gone; its request is not. Ends with the server's answer, or when it closes the connection."""
        self._dead.add("down")
        _reset(self._client[1])
        planned.fired.set()
        try:
            await planned.released()
            self._awaiting.append(planned)
            request.passed = await self._write("up", message)
            await planned.delivered.wait()
        finally:
            planned.delivered.set()

    def _break(self, planned: Break) -> None:
        planned.fired.set()
        self.reset()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = Messages()
        async for data in _pieces(reader):
            await self._proxy.let_through("down")
            for message in messages.feed(data):
                if not self._ended.is_set():
                    await self._answer(self._awaiting.popleft() if self._awaiting else None, message)

    async def _answer(self, planned: Break | None, message: bytes) -> None:
        point = planned.point if planned is not None else None
        if planned is not None and point == "before_read":
            return self._break(planned)
        await self._write("down", message)
        if planned is not None and point == "after_read":
            self._break(planned)
        if planned is not None and point == "late":
            planned.delivered.set()

    async def _write(self, direction: Direction, message: bytes) -> bool:
        """Send what the faults let through; True for all of it."""
        if direction in self._dead or self._proxy.swallows(direction) or self._server is None:
            self._dead.add(direction)
            return False
        count = self._proxy.allow(direction, len(message))
        writer = self._server[1] if direction == "up" else self._client[1]
        writer.write(message[:count])
        await writer.drain()
        if count < len(message):
            self.reset()
        return count == len(message)


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            yield data


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        # Lingering for no time makes close() send RST instead of FIN.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

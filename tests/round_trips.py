"""Counts round trips on the wire: how often a client had to wait for the server before it could ask on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from tests.wire import Messages


class RoundTrips:
    """A proxy in front of a server, for one `async with`.

    Args:
        port: the server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self.count = 0
        """Requests that were sent while no reply was outstanding: a pipeline is one, whatever is in it."""
        self.commands = 0
        self._port = port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> RoundTrips:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        waiting = 0

        def asked(number: int) -> None:
            nonlocal waiting
            self.count += waiting == 0 and number > 0
            self.commands += number
            waiting += number

        def answered(number: int) -> None:
            nonlocal waiting
            waiting -= number

        try:  # a handler that ends by being cancelled is an error to asyncio's server in Python 3.11
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await asyncio.gather(_carry(reader, back, asked), _carry(there, writer, answered))
        finally:
            self._links.discard(task)
            back.close()
            writer.close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, tell: Callable[[int], None]) -> None:
    messages = Messages()
    while data := await source.read(2**20):
        tell(len(list(messages.feed(data))))
        target.write(data)
        await target.drain()
    target.close()

"""The host's end of the socket to a child: frames out, frames in, a few at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from workers.runtime.isolation.frames import FrameError, Unpacker, pack

#: Bytes that are read at once. Much more, and the memory for it would cost more than the reading.
CHUNK = 65_536
#: Frames that are taken in one turn of the loop: a child that floods its host must not keep it from others.
AT_ONCE = 16


class Channel(asyncio.BufferedProtocol):
    """Frames over a socket.

    Args:
        take: given each message; FrameError, KeyError, TypeError and ValueError from it mean that it was none.
        on_broken: told what was wrong with what came; nothing more is taken then.
    """

    def __init__(self, take: Callable[[dict[str, Any]], None], on_broken: Callable[[Exception], None]) -> None:
        self._take = take
        self._on_broken = on_broken
        self._frames = Unpacker()
        self._buffer = memoryview(bytearray(CHUNK))
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._scheduled = self._held = self._broken = False
        self.closed = self._loop.create_future()
        """Done when nothing more comes."""

    async def open(self, end: socket.socket) -> None:
        """Begin; the socket is ours from now on."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; nothing where the other end is gone.

        Raises:
            FrameError, ValueError, TypeError: it can't be sent.
        """
        frame = pack(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def hold(self, held: bool) -> None:
        """Take no more messages while held."""
        self._held = held
        self._pause_or_resume()
        if not held and not self._scheduled:
            self._pump()

    def close(self) -> None:
        """End it. What was not sent yet isn't."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BufferedProtocol."""
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._frames.feed(self._buffer[:nbytes])
        if not self._scheduled:
            self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.BufferedProtocol. What had come is taken before it counts as closed."""
        self._held = False
        while self._next():
            continue
        if not self.closed.done():
            self.closed.set_result(None)

    def _pump(self) -> None:
        self._scheduled = False
        for _ in range(AT_ONCE):
            if self._held or not self._next():
                break
        else:
            self._scheduled = True
            self._loop.call_soon(self._pump)
        self._pause_or_resume()

    def _next(self) -> bool:
        """Take one message; whether there was one."""
        if self._broken:
            return False
        try:
            message = self._frames.next()
            if message is not None:
                self._take(message)
        except (FrameError, KeyError, TypeError, ValueError) as error:
            self._broken = True
            self._on_broken(error)
            return False
        return message is not None

    def _pause_or_resume(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._scheduled or self._held:
            transport.pause_reading()
        else:
            transport.resume_reading()

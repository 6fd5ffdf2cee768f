"""The child's ear: its event loop reads what the host sends, and a thread where a processor keeps the loop from it.

The loop alone is the shortest way for a run to begin. The thread sleeps while runs are short; it takes part once one
has lasted for LATE_S, so a request to stop is known soon, whatever the processor does.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from workers.runtime.isolation.frames import Unpacker

#: How long a run lasts before the thread listens too; how long it leaves what has come to the loop; how long nothing
#: runs before it goes to sleep; seconds.
LATE_S, LOOP_FIRST_S, QUIET_S = 0.02, 0.002, 1.0
#: Bytes that are read at once. Much more, and the memory for it would cost more than the reading.
_CHUNK = 65_536


class Listener:
    """Messages from a socket.

    Args:
        take: given each message, in order, on the loop or in the thread, never in both at once.
        on_end: called when no more comes.
    """

    def __init__(
        self, channel: socket.socket, take: Callable[[dict[str, Any]], None], on_end: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._take = take
        self._on_end = on_end
        self._frames = Unpacker()
        self._reading = threading.Lock()
        self._busy = threading.Event()
        self._run: object | None = None
        self._closed = False

    def first(self) -> dict[str, Any] | None:
        """Wait for the first message, before there is a loop; None: none comes."""
        while (message := self._frames.next()) is None:
            data = self._channel.recv(_CHUNK)
            if not data:
                return None
            self._frames.feed(data)
        return message

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take messages on the loop."""
        loop.add_reader(self._channel.fileno(), self._receive)

    def stand_in(self) -> None:
        """From now on something may keep the loop busy: start the thread."""
        threading.Thread(target=self._stand_in, name="listener", daemon=True).start()

    def began(self, run: object) -> None:
        """A run has begun."""
        self._run = run
        if not self._busy.is_set():
            self._busy.set()

    def ended(self) -> None:
        """The run has ended."""
        self._run = None

    def close(self) -> None:
        """Take no more messages: the socket is about to be closed here, which is not the end of the host."""
        with self._reading:
            self._closed = True

    def _receive(self) -> None:
        with self._reading:
            if self._closed:
                return
            try:
                data = self._channel.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:  # the other one has read it
                return
            except OSError:  # closed by a job
                data = b""
            if data:
                self._frames.feed(data)
            while (message := self._frames.next()) is not None:
                self._take(message)
            if not data:
                self._on_end()

    def _stand_in(self) -> None:
        readable = select.poll()
        readable.register(self._channel, select.POLLIN)
        seen, quiet_s = None, 0.0
        while True:
            self._busy.wait()
            time.sleep(LATE_S)
            run = self._run
            if run is not None and run is seen:
                readable.poll()
                time.sleep(LOOP_FIRST_S)
                self._receive()
            quiet_s = quiet_s + LATE_S if run is None else 0.0
            if quiet_s >= QUIET_S:
                self._busy.clear()
                if self._run is not None:  # it began just now, when this thread still seemed to be awake
                    self._busy.set()
            seen = run

"""A child's standard output and error: a bounded part becomes log lines; the rest is dropped, and counted."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections import deque

log = logging.getLogger("fleet.output")

#: Bytes and lines of one job that are logged, and characters of a line.
MAX_BYTES, MAX_LINES, MAX_LINE = 65_536, 500, 2_048
#: Lines that are logged in one turn of the loop.
AT_ONCE = 20
#: Bytes that are read at once: what a pipe holds. Once a job has had its share, the next look waits so long (seconds):
#: who writes a gigabyte then does it at 64 MB a second, and costs others nothing.
CHUNK, DROP_PAUSE_S = 65_536, 0.001


class Output:
    """The reading end of a pipe that a child writes to.

    Args:
        fd: closed by `close`.
        queue: whose child it is.
    """

    def __init__(self, fd: int, queue: str) -> None:
        self._fd = fd
        self._fields = {"queue": queue}
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._left_bytes, self._left_lines = MAX_BYTES, MAX_LINES
        self._dropped = 0
        self._line = b""
        self._lines: deque[tuple[contextvars.Context, str]] = deque()
        self._scheduled = False
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def belongs_to(self, context: contextvars.Context) -> None:
        """From now on it is written by a job, whose log context this is, or by nobody's."""
        self._drain()
        self._end_part()
        self._context = context
        self._left_bytes, self._left_lines = MAX_BYTES, MAX_LINES

    def close(self) -> None:
        """Take what is left, and end."""
        if self._closed:
            return
        self._drain()
        self._end_part()
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _readable(self) -> None:
        if self._read() and self._left_bytes <= 0:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(DROP_PAUSE_S, self._look_again)

    def _look_again(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._readable)

    def _drain(self) -> None:
        """What has been written so far, up to what the pipe holds."""
        if not self._closed:
            self._read()

    def _read(self) -> bool:
        """Read once; whether there may be more."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:  # the last writer is gone
            self._loop.remove_reader(self._fd)
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        kept = data[: max(0, self._left_bytes)]
        self._dropped += len(data) - len(kept)
        self._left_bytes -= len(kept)
        *lines, self._line = (self._line + kept).split(b"\n")
        for line in lines:
            self._add(line)

    def _add(self, line: bytes) -> None:
        if self._left_lines <= 0:
            self._dropped += len(line) + 1
            return
        self._left_lines -= 1
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        self._later(text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…")

    def _end_part(self) -> None:
        if self._line:
            self._add(self._line)
            self._line = b""
        if self._dropped:
            self._later(f"{self._dropped:,} further bytes of output were dropped")
            self._dropped = 0

    def _later(self, text: str) -> None:
        self._lines.append((self._context, text))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._log_some)

    def _log_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._lines))):
            context, text = self._lines.popleft()
            context.run(log.info, "%s", text, extra=self._fields)
        self._scheduled = bool(self._lines)
        if self._scheduled:
            self._loop.call_soon(self._log_some)

"""A process of a pool outlives its supervisor only for as long as its drain takes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from contextlib import suppress

from workers.cli.standard_streams import high_copy

log = logging.getLogger(__name__)

#: What a drain may take beyond its grace before the process is ended whatever runs in it, seconds.
SLACK_S = 10.0
EXIT_ORPHANED = 1


class Lifeline:
    """The supervisor holds the other end of a pipe, which is standard input; its end means that the supervisor is gone.

    A thread reads it: a loop that is blocked for ever would hear of it too late.

    Args:
        fd: the pipe's descriptor; it stays open.
        grace_s: what a drain may take.
    """

    def __init__(self, fd: int, grace_s: float) -> None:
        self._fd, self._grace_s = fd, grace_s

    @classmethod
    def of_stdin(cls, grace_s: float) -> Lifeline:
        """Standard input under another number; jobs find /dev/null in its place."""
        lifeline = cls(high_copy(0), grace_s)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return lifeline

    async def end(self) -> str:
        """Wait for it; returns what to say of it."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._watch, args=(loop, gone), name="lifeline", daemon=True).start()
        await gone.wait()
        return "the supervisor is gone"

    def _watch(self, loop: asyncio.AbstractEventLoop, gone: asyncio.Event) -> None:
        with suppress(OSError):  # closed by a job: as good as gone
            while os.read(self._fd, 4096):
                continue
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(gone.set)
        time.sleep(self._grace_s + SLACK_S)
        log.error("the supervisor is gone, and this process did not end within its grace: it is killed")
        os._exit(EXIT_ORPHANED)

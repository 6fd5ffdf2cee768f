"""The innocent neighbour: a mail each 50 ms, from its producer's call to the mail server's 250."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any

from aiosmtpd.smtp import SMTP
from bullmq import Queue

from tests.conftest import wait_until

QUEUE = "email-send"
EVERY_S = 0.05
#: How long mails are waited for, seconds.
PATIENCE_S = 30.0


class MailStream:
    """Producer and mail server, both in the running loop. Used as a context manager."""

    def __init__(self, redis: str) -> None:
        self._redis = redis
        self._server: asyncio.Server | None = None
        self._producer: asyncio.Task[None] | None = None
        self._end = asyncio.Event()
        self.added: dict[str, float] = {}
        """Job id → monotonic seconds before its producer's call."""
        self.accepted: dict[str, list[float]] = defaultdict(list)
        """Job id → when the server took it; more than once, should it come twice."""

    async def __aenter__(self) -> MailStream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, loop=loop, hostname="sink.test", enable_SMTPUTF8=True), "127.0.0.1", 0
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._producer is not None:
            self._producer.cancel()
            await asyncio.wait({self._producer})
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        """Of the mail server."""
        assert self._server is not None
        return f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def begin(self) -> None:
        """Add mails from now on."""
        self._producer = asyncio.create_task(self._produce())

    async def finish(self) -> None:
        """Add no more, and return when all have arrived, or no more will."""
        self._end.set()
        if self._producer is not None:
            await self._producer
        await self.caught_up()
        await asyncio.sleep(1)  # for one that comes twice

    async def caught_up(self) -> None:
        """Return when all that has been added until now has arrived, or nothing will."""
        wanted = set(self.added)
        with suppress(AssertionError):  # what is missing in the end is lost
            await wait_until(lambda: wanted <= self.accepted.keys(), timeout_s=PATIENCE_S, every_s=0.02)

    def latencies_s(self, begin: float, end: float) -> list[float]:
        """Of the mails that were added between these times and have arrived, seconds."""
        return [
            self.accepted[job][0] - added
            for job, added in self.added.items()
            if begin <= added < end and job in self.accepted
        ]

    @property
    def lost(self) -> int:
        """Mails that have not arrived."""
        return len(self.added.keys() - self.accepted.keys())

    @property
    def twice(self) -> int:
        """Mails that have arrived more than once."""
        return sum(len(times) > 1 for times in self.accepted.values())

    async def _produce(self) -> None:
        queue = Queue(QUEUE, {"connection": self._redis})
        try:
            due, number = time.monotonic(), 0
            while not self._end.is_set():
                number += 1
                await self._add(queue, f"mail-{number:06d}")
                due += EVERY_S
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._end.wait(), max(0.001, due - time.monotonic()))
        finally:
            await queue.close()

    async def _add(self, queue: Any, job: str) -> None:
        data = {"type": QUEUE, "id": job, "to": [f"{job}@example.com"], "subject": job, "text": "Still there."}
        self.added[job] = time.monotonic()
        await queue.add(QUEUE, data, {"jobId": job})

    # What aiosmtpd calls: https://aiosmtpd.aio-libs.org/en/latest/handlers.html

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.accepted[envelope.rcpt_tos[0].partition("@")[0]].append(time.monotonic())
        return "250 2.0.0 accepted"

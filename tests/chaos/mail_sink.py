"""A mail server that takes its time, refuses some mails, and writes each one it accepts into the ledger."""

from __future__ import annotations

import asyncio
import random
from email import message_from_bytes
from typing import Any

from aiosmtpd.smtp import SMTP

from tests.chaos.ledger import Ledger

#: Share of the mails that are put off with 451, and that take seconds instead of milliseconds.
PUT_OFF, SLOW = 0.05, 0.03
#: Recipients whose name begins so are refused for good.
BOUNCE = "bounce-"


class MailSink:
    """Listens on loopback from `start` to `stop`, in the running event loop. One recipient a mail: `<job>@…`."""

    def __init__(self, ledger: Ledger, seed: str) -> None:
        self._ledger = ledger
        self._draw = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._connections: set[SMTP] = set()

    @property
    def url(self) -> str:
        """Known after `start`."""
        if self._server is None:
            raise RuntimeError("the mail sink is not running")
        return f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def connect() -> asyncio.Protocol:
            connection = SMTP(self, loop=loop, hostname="sink.test", enable_SMTPUTF8=True)
            self._connections.add(connection)
            protocol: asyncio.Protocol = connection
            return protocol

        self._server = await loop.create_server(connect, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Hang up on everyone. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        talks = [each._handler_coroutine for each in self._connections if each._handler_coroutine is not None]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    # What aiosmtpd calls: https://aiosmtpd.aio-libs.org/en/latest/handlers.html

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address.startswith(BOUNCE):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        slow = self._draw.random() < SLOW
        takes_s = self._draw.uniform(1.0, 3.0) if slow else self._draw.uniform(0.005, 0.15)
        await asyncio.sleep(takes_s)
        job = envelope.rcpt_tos[0].partition("@")[0]
        if self._draw.random() < PUT_OFF:
            self._ledger.put_off(job)
            return "451 4.3.0 try again later"
        message = message_from_bytes(envelope.original_content)
        self._ledger.delivered(job, str(message["Message-ID"]), takes_s)
        return "250 2.0.0 accepted"

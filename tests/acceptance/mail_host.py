"""A real SMTP server (aiosmtpd) in a thread of the test run, which treats each recipient as it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult

from tests.conftest import free_port

#: Instead of the answer to a message: none, until `MailHost.release`.
HOLD = "hold"
#: Instead of the answer to a message: the connection breaks.
CLOSE = "close"
#: Instead of taking the message: the connection breaks while it is on its way.
CLOSE_MIDWAY = "close midway"


@dataclass(frozen=True)
class Received:
    """A message that was accepted."""

    recipients: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.SMTPUTF8)


class _Session(SMTP):  # type: ignore[misc]
    """One connection; aiosmtpd itself can't break off within DATA."""

    async def smtp_DATA(self, arg: str) -> None:
        host: MailHost = self.event_handler
        if self.envelope.rcpt_tos and host.next_answer(self.envelope.rcpt_tos[0], CLOSE_MIDWAY):
            await self.push("354 go ahead")
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


@dataclass
class MailHost:
    """Runs from `start` to `stop`, and may be started again on the same port.

    `answers["dana@example.com"]` holds what is answered to the next messages for that recipient, instead of 250.
    """

    answers: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    refuse: dict[str, str] = field(default_factory=dict)
    """What is always answered for a recipient."""
    silent_connections: int = 0
    """So many of the next connections are accepted and told nothing."""
    login: tuple[str, str] | None = None
    """User and password that a client must give."""
    received: list[Received] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    """The recipient of each message that came in, accepted or not."""
    port: int = field(default_factory=free_port)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _protocols: list[Any] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def recipients(self) -> list[str]:
        """Of all accepted messages, in their order."""
        return [recipient for each in tuple(self.received) for recipient in each.recipients]

    def messages_to(self, recipient: str) -> list[EmailMessage]:
        return [each.message for each in tuple(self.received) if recipient in each.recipients]

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mail host", daemon=True)
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """Close the port and every connection. Idempotent."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._loop = self._thread = None

    def release(self) -> None:
        """Accept the messages that are on hold, and those that would be."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._released.set)

    def next_answer(self, recipient: str, only: str | None = None) -> str | None:
        """Take the next answer for a recipient; with `only` nothing but that one."""
        waiting = self.answers.get(recipient)
        if not waiting or (only is not None and waiting[0] != only):
            return None
        return waiting.popleft()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"enable_SMTPUTF8": True, "hostname": "mail.test"}
        if self.login is not None:
            options |= {"authenticator": self._authenticate, "auth_require_tls": False}

        def connect() -> asyncio.Protocol:
            if self.silent_connections > 0:
                self.silent_connections -= 1
                return asyncio.Protocol()
            self._protocols.append(_Session(self, loop=loop, **options))
            protocol: asyncio.Protocol = self._protocols[-1]
            return protocol

        self._listener = await loop.create_server(connect, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for protocol in self._protocols:
            if protocol.transport is not None:
                protocol.transport.abort()
        self._protocols.clear()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self.login, handled=False)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.login is not None and not session.authenticated:
            return "530 5.7.0 authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = self.refuse.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        recipients = tuple(envelope.rcpt_tos)
        self.begun.extend(recipients)
        answer = self.next_answer(recipients[0]) or "250 2.0.0 queued as 4711"
        if answer == HOLD:
            await self._released.wait()
            answer = "250 2.0.0 queued as 4711"
        if answer == CLOSE:
            server.transport.abort()
        if answer.startswith("250"):
            self.received.append(Received(recipients, envelope.content))
        return answer

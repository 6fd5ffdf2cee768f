"""A real aiosmtpd server that misbehaves on demand, and a scripted one for what aiosmtpd would never say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult

from tests.conftest import wait_until

CERTIFICATES = Path(__file__).parent / "certs"
CA_FILE = CERTIFICATES / "ca.pem"

#: Instead of a reply: none, ever.
HANG = "hang"
#: Instead of a reply: the connection breaks.
CLOSE = "close"


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context


@dataclass
class Received:
    """A message that the server accepted."""

    sender: str
    recipients: list[str]
    parameters: list[str]
    content: bytes
    connection: int

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.SMTPUTF8)


@dataclass
class MailServer:
    """An SMTP server on loopback and what it saw.

    `script["RCPT"] = ["451 later"]` is what it answers to the next RCPT commands, before it goes back to normal;
    `refuse` is what it always answers for a recipient.
    """

    script: dict[str, list[str]] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    """Extensions that EHLO doesn't announce."""
    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    auth_data: list[Any] = field(default_factory=list)
    protocols: list[Any] = field(default_factory=list)
    """One for each connection so far."""
    peak: int = 0
    """Most connections at once."""
    gate: asyncio.Event | None = None
    """Messages are answered when it is set; None: at once."""
    port: int = 0
    _listener: asyncio.Server | None = None

    async def start(self, *, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        """Args: tls: from the first byte; `tls_context` in the options is for STARTTLS."""
        loop = asyncio.get_running_loop()
        options = {"enable_SMTPUTF8": True, "hostname": "mail.test", "data_size_limit": 10_000_000, **options}
        if self.logins:
            options = {"authenticator": self._authenticate, "auth_require_tls": False, **options}

        def connect() -> Any:
            self.protocols.append(SMTP(self, loop=loop, **options))
            return self.protocols[-1]

        self._listener = await loop.create_server(connect, "127.0.0.1", self.port, ssl=tls)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.drop_connections()
        await wait_until(lambda: self.open == 0)
        if self._listener is not None:
            await self._listener.wait_closed()

    @property
    def open(self) -> int:
        """Connections at present."""
        return sum(protocol.transport is not None for protocol in self.protocols)

    def drop_connections(self) -> None:
        for protocol in self.protocols:
            if protocol.transport is not None:
                protocol.transport.abort()

    async def _answer(self, server: Any, command: str, normal: str) -> str:
        self.commands.append(command)
        self.peak = max(self.peak, self.open)
        answers = self.script.get(command) or [normal]
        answer = answers.pop(0)
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == CLOSE:
            server.transport.abort()
        return answer

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        self.commands.append("AUTH")
        self.auth_data.append(data)
        accepted = self.logins.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=accepted, handled=False)

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, lines: list[str]) -> list[str]:
        self.commands.append(f"EHLO {hostname}")
        session.host_name = hostname
        shown = [line for line in lines if not any(line[4:].startswith(name) for name in self.hidden)]
        return [*shown[:-1], shown[-1].replace("250-", "250 ", 1)]

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = await self._answer(server, "MAIL", "250 OK")
        if answer.startswith("250"):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = await self._answer(server, "RCPT", self.refuse.get(address, "250 OK"))
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.gate is not None:
            await self.gate.wait()
        answer = await self._answer(server, "DATA", "250 2.0.0 queued as 4711")
        if answer.startswith("250"):
            connection = self.protocols.index(server)
            self.received.append(
                Received(envelope.mail_from, envelope.rcpt_tos, envelope.mail_options, envelope.content, connection)
            )
        return answer

    async def handle_RSET(self, server: Any, session: Any, envelope: Any) -> str:
        return await self._answer(server, "RSET", "250 OK")

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        return await self._answer(server, "QUIT", "221 Bye")


class Talk:
    """One connection of a scripted server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, *lines: str | bytes) -> None:
        for line in lines:
            self._writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")
        await self._writer.drain()

    async def hear(self) -> str:
        return (await self._reader.readline()).decode().strip()

    def stop_listening(self) -> None:
        """Leave whatever arrives in the socket, the end of the TLS session included."""
        cast(asyncio.ReadTransport, self._writer.transport).pause_reading()

    async def hang(self) -> None:
        await self._reader.read()


Script = Callable[[Talk], Awaitable[None]]


class ScriptedServer:
    """Runs the script for each connection, then closes it."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._talks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0
        self.connections = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._talks.add(task)
        try:
            await self._script(Talk(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._talks.discard(task)

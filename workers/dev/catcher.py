"""A local SMTP server that delivers nothing: each message becomes an .eml file for a person or a test to read.

It refuses on purpose where the recipient's local part asks for it: `bounce` anywhere in it is answered 550,
`retry` 451 the first time and accepted from then on, so that retries and failures can be seen.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from workers.dev import DevError, PartHealth
from workers.dev.mail_folder import CaughtMail, MailFolder

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope

log = logging.getLogger(__name__)

REMEMBERED = 10_000  # recipients that were put off once
LARGEST_MESSAGE = 25 * 1024 * 1024  # bytes; larger is refused with 552
IDLE_S = 120.0  # after which a silent client is disconnected
CLOSING_S = 1.0  # for messages being stored when the catcher stops


#: Each open connection with the task that serves it.
Talks: TypeAlias = dict[asyncio.BaseTransport, asyncio.Task[None]]


class Refusals:
    """Which recipients are refused, and how.

    Args:
        share: share of all recipients, 0 to 1, that is put off at random, each time anew.
        seed: makes those draws repeatable; None: another sequence each run.
    """

    def __init__(self, share: float = 0.0, seed: int | None = None) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError("the share of refused recipients must be between 0 and 1")
        self._share = share
        self._draws = random.Random(seed)  # noqa: S311 - it guards nothing
        self._put_off: OrderedDict[str, None] = OrderedDict()

    def reply(self, recipient: str) -> str | None:
        """The SMTP reply that refuses this recipient now, or None: accepted."""
        local = recipient.rpartition("@")[0].lower()
        if "bounce" in local:
            return "550 5.1.1 no such mailbox (the address says bounce)"
        if "retry" in local and recipient not in self._put_off:
            self._put_off[recipient] = None
            if len(self._put_off) > REMEMBERED:
                self._put_off.popitem(last=False)
            return "451 4.3.0 try again later (the address says retry)"
        if self._share and self._draws.random() < self._share:
            return "451 4.3.0 try again later (drawn at random)"
        return None


class MailCatcher:
    """An SMTP server in the running event loop that stores what it accepts under `directory`.

    Args:
        directory: made if absent, for this user alone; only .eml files in it are touched.
        host: the interface. Defaults to loopback; there is neither authentication nor TLS.
        port: Defaults to 0, any free port.
        keep: the newest messages that stay, those of earlier runs included. Defaults to 1,000.
        fail_share: share of the recipients, 0 to 1, that is answered 451 at random. Defaults to 0.
        seed: makes those draws repeatable. Defaults to None.
        on_mail: called in the event loop for each stored message; its exceptions are logged.
    """

    name = "mail catcher"

    def __init__(
        self,
        directory: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        keep: int = 1000,
        fail_share: float = 0.0,
        seed: int | None = None,
        on_mail: Callable[[CaughtMail], None] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.count = 0
        """Messages stored since `start`."""
        self.refused = 0
        """Recipients refused since `start`."""
        self._host = host
        self._port = port
        self._folder = MailFolder(self.directory, keep)
        self._refusals = Refusals(fail_share, seed)
        self._on_mail = on_mail
        self._storing: set[asyncio.Task[str]] = set()
        self._talks: Talks = {}
        self._server: asyncio.Server | None = None
        self._stopped = asyncio.Event()

    @property
    def url(self) -> str:
        """`smtp://HOST:PORT`, known after `start`.

        Raises:
            DevError: it is not running.
        """
        if self._server is None or not self._server.sockets:
            raise DevError("the mail catcher is not running")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"smtp://{host}:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Listen; return when connections are accepted.

        Raises:
            DevError: aiosmtpd is not installed, the directory not writable, or the port taken.
        """
        if self._server is not None:
            return
        make_protocol = _protocol_factory(_Handler(self), self._talks)
        await asyncio.to_thread(self._folder.open)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(make_protocol, self._host, self._port)
        except OSError as error:
            raise DevError(
                f"the mail catcher can't listen on {self._host}:{self._port}: {error.strerror or error}; "
                "choose another port, or 0 for any free port"
            ) from error

    async def wait(self) -> None:
        """Return after `stop`; the catcher does not die by itself."""
        await self._stopped.wait()

    async def stop(self, *, by: float) -> None:
        """Accept no more, give messages being stored a second, and disconnect everyone by `by`."""
        server, self._server = self._server, None
        self._stopped.set()
        if server is None:
            return
        server.close()
        until = min(by, time.monotonic() + CLOSING_S)
        if self._storing:
            await asyncio.wait(self._storing, timeout=max(0.0, until - time.monotonic()))
        talks = tuple(self._talks.items())
        for connection, _ in talks:
            connection.close()
        if talks:
            await asyncio.wait([talk for _, talk in talks], timeout=max(0.0, until - time.monotonic()))

    def health(self) -> PartHealth:
        """Whether it accepts connections."""
        if self._server is None:
            return PartHealth(ok=False, detail="not running")
        return PartHealth(ok=True, detail=f"{self.url}, {self.count} stored in {self.directory}")

    def refusal(self, recipient: str) -> str | None:
        """The reply that refuses this recipient, counted; None: accepted."""
        reply = self._refusals.reply(recipient)
        self.refused += reply is not None
        return reply

    async def store(self, content: bytes, sender: str, recipients: list[str]) -> str:
        """Store a message and return the SMTP reply. A client that hangs up meanwhile undoes nothing."""
        storing = asyncio.create_task(self._store(content, sender, recipients))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return await asyncio.shield(storing)

    async def _store(self, content: bytes, sender: str, recipients: list[str]) -> str:
        try:
            mail = await asyncio.to_thread(self._folder.store, content, sender, recipients)
        except OSError as error:
            log.warning("a mail could not be stored: %s", error)
            return "452 4.3.1 the message could not be stored, try again later"
        self.count += 1
        if self._on_mail is not None:
            try:
                self._on_mail(mail)
            except Exception:
                log.exception("the mail listener failed")
        return f"250 2.0.0 stored as {mail.path.name}"


class _Handler:
    """What aiosmtpd calls: https://aiosmtpd.aio-libs.org/en/latest/handlers.html"""

    def __init__(self, catcher: MailCatcher) -> None:
        self._catcher = catcher

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if refusal := self._catcher.refusal(address):
            return refusal
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        return await self._catcher.store(content, envelope.mail_from or "", list(envelope.rcpt_tos))

    async def handle_exception(self, error: Exception) -> str:
        log.warning("the mail catcher failed on a command: %r", error)
        return "451 4.3.0 the command failed, try again later"


def _protocol_factory(handler: _Handler, talks: Talks) -> Callable[[], asyncio.Protocol]:
    try:
        from aiosmtpd.smtp import SMTP
    except ModuleNotFoundError as error:
        raise DevError("the mail catcher needs the package aiosmtpd: install fleet-workers[embedded]") from error

    class Connection(SMTP):  # type: ignore[misc] # its decorator hides the class from mypy
        """Notes its transport and its task, so that stopping can end them."""

        _noted: asyncio.BaseTransport | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._noted = transport
            talks[transport] = talk = self._handler_coroutine
            talk.add_done_callback(_take_exception)

        def connection_lost(self, error: Exception | None) -> None:
            if self._noted is not None:
                talks.pop(self._noted, None)
            super().connection_lost(error)

    # aiosmtpd tells every command, addresses included, at level INFO.
    mail_log = logging.getLogger("mail.log")
    if mail_log.level == logging.NOTSET:
        mail_log.setLevel(logging.WARNING)

    def make() -> asyncio.Protocol:
        return Connection(
            handler,
            hostname="catcher.localhost",
            ident="Fleet mail catcher",
            data_size_limit=LARGEST_MESSAGE,
            enable_SMTPUTF8=True,
            timeout=IDLE_S,
            loop=asyncio.get_running_loop(),
        )

    return make


def _take_exception(talk: asyncio.Task[None]) -> None:
    """A client that resets the connection is no error of ours: keep asyncio from logging it."""
    if not talk.cancelled():
        talk.exception()

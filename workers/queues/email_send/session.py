"""An SMTP session up to the point where mails can be sent: connected, greeted, encrypted, authenticated."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import aiosmtplib
from pydantic import SecretStr

from workers.queues.email_send import faults
from workers.queues.email_send.options import EmailOptions

T = TypeVar("T")


class SmtpSession:
    """One connection to the server, opened again as often as needed.

    Every exchange goes through `take`, which bounds its time and remembers which step it was. There is no other
    clock: asyncio.wait_for, which aiosmtplib would use, may swallow a cancellation (Python 3.11).

    Args:
        tls: made by the owner once; unused where the options ask for no TLS.
    """

    def __init__(self, options: EmailOptions, tls: ssl.SSLContext) -> None:
        self._options = options
        self._tls = tls
        self._client: aiosmtplib.SMTP | None = None
        self._transport: asyncio.BaseTransport | None = None
        self.server = options.smtp_url.address
        """host:port, for messages."""
        self.step: faults.Step = "connect"
        """The step that was taken last."""
        self.until = float("inf")
        """Monotonic seconds after which no step waits any more."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection that neither side has closed, as far as is known here."""
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> aiosmtplib.SMTP:
        """The connected client.

        Raises:
            aiosmtplib.SMTPServerDisconnected: there is none.
        """
        if self._client is None:
            raise aiosmtplib.SMTPServerDisconnected("Not connected")
        return self._client

    def extension(self, name: str) -> str | None:
        """The parameters of an extension that the server announced; None: it didn't."""
        return self.client.esmtp_extensions.get(name)

    async def take(self, step: faults.Step, call: Callable[[], Awaitable[T]], patience: float = 1.0) -> T:
        """Take one step within `patience` times options.timeout, and not beyond `until`. Returns its reply.

        Args:
            step: what messages call it; `self.step` from now on.
            call: sends the command and waits for the reply.
            patience: how many times options.timeout (seconds) it may take. Defaults to 1.

        Raises:
            TimeoutError: no answer by then.
            aiosmtplib.SMTPException, OSError: what `call` raises.
        """
        self.step = step
        async with asyncio.timeout(min(self._options.timeout * patience, max(0.0, self.until - time.monotonic()))):
            return await call()

    async def open(self) -> None:
        """Connect anew, by the options' TLS mode and credentials.

        Raises:
            JobError: the server doesn't offer what the options need.
            aiosmtplib.SMTPException, OSError: `step` failed.
        """
        self.abort()
        security = self._options.security
        self._client = client = aiosmtplib.SMTP(
            hostname=self._options.smtp_url.host,
            port=self._options.smtp_url.port,
            # Otherwise it asks DNS for our own name, for as long as that takes.
            local_hostname=self._options.greeting_name,
            use_tls=security == "implicit",
            start_tls=False,
            tls_context=self._tls,
            timeout=None,
        )
        await self.take("connect", client.connect)
        self._transport = client.transport
        await self.take("EHLO", self._greet)
        if security == "starttls" or (security == "opportunistic" and self.extension("starttls") is not None):
            await self._start_tls()
        if self._options.login is not None:
            await self._log_in(*self._options.login)

    async def quit(self, within_s: float) -> None:
        """Take leave (RFC 5321 §4.1.1.10) and close, by force where the server doesn't answer within `within_s`
        seconds. Raises only when cancelled."""
        try:
            if self.connected:
                async with asyncio.timeout(within_s):
                    await self.client.quit()
        except (aiosmtplib.SMTPException, OSError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once, saying nothing. Idempotent."""
        client, self._client = self._client, None
        transport, self._transport = self._transport, None
        for each in (transport, client.transport if client else None):
            # abort() and not close(): over TLS, that waits for the peer's part of the farewell.
            if isinstance(each, asyncio.WriteTransport):
                each.abort()
        if client is not None:
            client.close()

    async def _greet(self) -> None:
        try:
            await self.client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            # RFC 5321 §3.2: a server from before ESMTP refuses EHLO and knows HELO.
            if error.code // 100 != 5:
                raise
            await self.client.helo()

    async def _start_tls(self) -> None:
        if self.extension("starttls") is None:
            raise faults.not_offered("STARTTLS", self.server)
        await self.take("STARTTLS", self.client.starttls)
        self._transport = self.client.transport
        # RFC 3207 §4.2: what the server said in the clear is forgotten and asked for again.
        await self.take("EHLO", self._greet)

    async def _log_in(self, username: str, password: SecretStr) -> None:
        if self.extension("auth") is None:
            raise faults.not_offered("AUTH", self.server)
        await self.take("AUTH", partial(self.client.login, username, password.get_secret_value()))

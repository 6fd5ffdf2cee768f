"""Delivers mails over one SMTP session: opened when a mail needs it, kept for the next, thrown away on any doubt."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import partial

import aiosmtplib

from workers.queues.email_send import faults
from workers.queues.email_send.message import Mail, Recipient, Refusal
from workers.queues.email_send.session import SmtpSession

#: The reply to the message itself may take this many times options.timeout: the server may be delivering it
#: (RFC 5321 §4.5.3.2.6 wants 10 minutes where it wants 5 for a command).
MESSAGE_PATIENCE = 2.0

# RFC 5321 §4.2.3: 421, the server closes the connection.
_CLOSING = 421
_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The server took the mail for at least one recipient."""

    mail: Mail
    accepted: tuple[str, ...]
    refused: tuple[Refusal, ...]
    response: str
    """The server's reply to the message."""
    size: int
    """Bytes of the message."""
    envelope_s: float
    """Seconds that the recipients took."""
    message_s: float
    """Seconds that the message took."""


@dataclass(frozen=True, slots=True)
class _Letter:
    """A mail in the form that this server can take."""

    recipients: tuple[Recipient, ...]
    refused: tuple[Refusal, ...]
    content: bytes
    parameters: tuple[str, ...]
    """Of MAIL FROM."""
    encoding: str
    """Of the addresses."""


class SmtpConnection:
    """Delivers mails one after another. Not for two tasks at once."""

    def __init__(self, session: SmtpSession) -> None:
        self._session = session
        self._between_mails = False

    @property
    def reusable(self) -> bool:
        """Connected, and the last conversation came to its end: the server waits for a new MAIL FROM."""
        return self._between_mails and self._session.connected

    async def deliver(self, mail: Mail, until: float) -> Delivery:
        """Hand the mail to the server, connecting first where needed.

        Args:
            until: monotonic seconds after which no reply is awaited any more.

        Raises:
            TransientError, PermanentError: nobody got the mail, or it isn't known whether somebody did.
        """
        self._session.until = until
        try:
            letter = await self._begin(mail)
            began = time.monotonic()
            accepted, refused = await self._send_envelope(letter)
            enveloped = time.monotonic()
            response = await self._send_message(letter.content)
        except aiosmtplib.SMTPResponseException as error:
            failed = faults.failure(error, self._session.step, self._session.server)
            await self._end_transaction(error.code)
            raise failed from None
        except (aiosmtplib.SMTPException, OSError) as error:
            # Without its cause: that may quote a server's reply at any length.
            raise faults.failure(error, self._session.step, self._session.server) from None
        self._between_mails = True
        return Delivery(
            mail=mail,
            accepted=accepted,
            refused=refused,
            response=faults.reply(response.code, response.message),
            size=len(letter.content),
            envelope_s=enveloped - began,
            message_s=time.monotonic() - enveloped,
        )

    async def quit(self, within_s: float) -> None:
        """Take leave of the server and close, by force after `within_s` seconds. Raises only when cancelled."""
        self._between_mails = False
        await self._session.quit(within_s)

    def discard(self) -> None:
        """Close at once. Idempotent."""
        self._between_mails = False
        self._session.abort()

    async def _begin(self, mail: Mail) -> _Letter:
        """MAIL FROM, on a fresh connection if the kept one turns out to be dead.

        MAIL FROM is the test of a kept connection. It has no effect without DATA, so repeating it is safe; from
        RCPT TO on nothing is repeated.
        """
        if self.reusable:
            self._between_mails = False
            letter = self._letter(mail)
            try:
                await self._mail_from(mail, letter)
            except (ConnectionError, TimeoutError):
                pass
            except aiosmtplib.SMTPSenderRefused as error:
                if error.code != _CLOSING:
                    raise
            else:
                return letter
        await self._session.open()
        letter = self._letter(mail)
        await self._mail_from(mail, letter)
        return letter

    def _letter(self, mail: Mail) -> _Letter:
        recipients, refused = mail.split(smtputf8=self._session.extension("smtputf8") is not None)
        if not recipients:
            self._between_mails = True
            raise faults.nobody_left(refused, self._session.server)
        content = mail.render(recipients)
        parameters = []
        size = self._session.extension("size")
        if size is not None:
            self._check_size(len(content), size)
            parameters.append(f"SIZE={len(content)}")
        utf8 = any(each.mailbox.needs_smtputf8 for each in recipients)
        if utf8:
            parameters.append("SMTPUTF8")
        return _Letter(recipients, refused, content, tuple(parameters), "utf-8" if utf8 else "ascii")

    def _check_size(self, size: int, announced: str) -> None:
        """RFC 1870 §4: 0 or no number means no fixed limit."""
        limit = int(announced) if re.fullmatch("[0-9]{1,20}", announced.strip()) else 0
        if limit and size > limit:
            self._between_mails = True
            raise faults.too_large(size, limit, self._session.server)

    async def _mail_from(self, mail: Mail, letter: _Letter) -> None:
        call = partial(self._session.client.mail, mail.sender.path, options=letter.parameters)
        await self._session.take("MAIL FROM", call)

    async def _send_envelope(self, letter: _Letter) -> tuple[tuple[str, ...], tuple[Refusal, ...]]:
        accepted: list[str] = []
        refused = list(letter.refused)
        for recipient in letter.recipients:
            path = recipient.mailbox.path
            call = partial(self._session.client.rcpt, path, encoding=letter.encoding)
            try:
                await self._session.take("RCPT TO", call)
            except aiosmtplib.SMTPRecipientRefused as error:
                if not 400 <= error.code < 600 or error.code == _CLOSING:
                    raise
                said = faults.reply(error.code, error.message)
                refused.append(Refusal(recipient.entry, path, said, error.code))
            else:
                accepted.append(path)
        refused.sort(key=lambda each: each.entry)
        if not accepted:
            await self._end_transaction()
            raise faults.nobody_left(refused, self._session.server)
        return tuple(accepted), tuple(refused)

    async def _send_message(self, content: bytes) -> aiosmtplib.SMTPResponse:
        """DATA and the message, apart, so that a failure says whether the message was on its way."""
        client = self._session.client
        ready = await self._session.take("DATA", partial(client.execute_command, b"DATA"))
        if ready.code != aiosmtplib.SMTPStatus.start_input:
            raise aiosmtplib.SMTPDataError(ready.code, ready.message)
        protocol = client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        # RFC 5321 §4.5.2: the line with a dot alone ends the message, so other leading dots are doubled.
        protocol.write(_LEADING_DOT.sub(b"..", content) + b".\r\n")
        done = await self._session.take("message", protocol.read_response, MESSAGE_PATIENCE)
        if done.code // 100 != 2:
            raise aiosmtplib.SMTPDataError(done.code, done.message)
        return done

    async def _end_transaction(self, code: int = 0) -> None:
        """After a refusal: RSET (RFC 5321 §4.1.1.5), or drop a connection that isn't fit for another mail.

        Args:
            code: of the reply that refused the mail as a whole.
        """
        session = self._session
        unfit = session.step in faults.BEFORE_THE_MAIL or (code and not 400 <= code < 600) or code == _CLOSING
        if unfit or not session.connected:
            return self.discard()
        step = session.step
        try:
            await session.take(step, session.client.rset)
        except (aiosmtplib.SMTPException, OSError):
            return self.discard()
        self._between_mails = True

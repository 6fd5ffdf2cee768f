"""Sends the mail of one job, and opens what that needs once a process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from tasks.email_send import EmailSend
from workers.contract import JobContext, Outcome, Processor, Services
from workers.queues.email_send import faults
from workers.queues.email_send.connection import Delivery, SmtpConnection
from workers.queues.email_send.message import Mail, Refusal, compose
from workers.queues.email_send.options import EmailOptions
from workers.queues.email_send.pool import ConnectionPool
from workers.queues.email_send.session import SmtpSession

#: Seconds before the job's deadline at which we stop waiting ourselves, so that the failure names server and step.
MARGIN_S = 0.5
#: Characters of content from which a mail is made in a thread; the event loop has other jobs to serve.
THREAD_CHARS = 32_768


class EmailProcessor:
    """Sends one mail a job, at least once: an attempt whose reply was lost is repeated with the same Message-ID."""

    def __init__(self, pool: ConnectionPool, options: EmailOptions) -> None:
        self._pool = pool
        self._options = options

    async def __call__(self, task: EmailSend, ctx: JobContext) -> dict[str, Any] | Outcome:
        if stop := ctx.stop:
            return stop.outcome()
        mail = await self._compose(task)
        async with self._pool.lend() as connection:
            delivery = await connection.deliver(mail, until=ctx.deadline - MARGIN_S)
        # The mail is out: nothing may fail from here on, or it would be sent again.
        return result(delivery)

    async def _compose(self, task: EmailSend) -> Mail:
        if task.template is not None:
            raise faults.no_template(task.template)
        arguments = (task, self._options.sender, datetime.now(UTC))
        if len(task.text) + len(task.html or "") > THREAD_CHARS:
            mail = await asyncio.to_thread(compose, *arguments)
        else:
            mail = compose(*arguments)
        if not mail.recipients:
            raise faults.no_address(mail.refused)
        if len(mail.recipients) > self._options.max_recipients:
            raise faults.too_many(len(mail.recipients), self._options.max_recipients)
        return mail


@asynccontextmanager
async def open_email(services: Services, options: EmailOptions) -> AsyncIterator[Processor[EmailSend]]:
    """Open the queue module. Connects to nothing: a mail server that is down must not keep the fleet from starting.

    Raises:
        ValueError: options.ca_file can't be read or holds no certificate.
    """
    tls = await asyncio.to_thread(tls_context, options)
    pool = ConnectionPool(lambda: SmtpConnection(SmtpSession(options, tls)), services.slots)
    try:
        yield EmailProcessor(pool, options)
    finally:
        await pool.close()


def tls_context(options: EmailOptions) -> ssl.SSLContext:
    """What `verify` and `ca_file` ask for.

    Raises:
        ValueError: ca_file can't be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        why = "holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"options.ca_file: {options.ca_file}: {why}") from None
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def result(delivery: Delivery) -> dict[str, Any]:
    """What the Node stack's processor returns: `success` unless someone was refused, and nodemailer's `info`."""
    return {
        "success": not delivery.refused,
        "info": {
            "accepted": list(delivery.accepted),
            "rejected": [each.recipient for each in delivery.refused],
            "rejectedErrors": [_rejected(each) for each in delivery.refused],
            "envelope": {
                "from": delivery.mail.sender.path,
                "to": [each.mailbox.path for each in delivery.mail.recipients],
            },
            "messageId": delivery.mail.message_id,
            "response": delivery.response,
            "messageSize": delivery.size,
            "envelopeTime": round(delivery.envelope_s * 1000),
            "messageTime": round(delivery.message_s * 1000),
        },
    }


def _rejected(refusal: Refusal) -> dict[str, Any]:
    return {
        "code": "EENVELOPE",
        "command": "RCPT TO",
        "recipient": refusal.recipient,
        "responseCode": refusal.code,
        "response": refusal.response,
    }

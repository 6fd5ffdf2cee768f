"""What the e-mail module works with in the contract's tests: a real mail server that wants a login."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.queues.contract.case import Example
from tests.queues.email_send.conftest import Context
from tests.queues.email_send.mail_server import CA_FILE, MailServer, server_tls

USERNAME, PASSWORD = "dana@vrooli.test", "s3cret-p4ssw0rd"


@asynccontextmanager
async def SURROUNDINGS() -> AsyncIterator[Example]:
    """A server from the first byte of TLS on, as in production."""
    server = MailServer(logins={USERNAME: PASSWORD})
    await server.start(tls=server_tls())
    try:
        yield Example(
            options={
                "smtp_url": f"smtps://localhost:{server.port}",
                "username": USERNAME,
                "password": PASSWORD,
                "from_name": "Vrooli",
                "ca_file": str(CA_FILE),
            },
            data=[
                {"type": "email-send", "id": "1", "to": ["dana@example.com"], "subject": "Hello", "text": "Hi"},
                {
                    "type": "email-send",
                    "id": "2",
                    "to": ["dana@example.com"],
                    "subject": "Ümläute, and large enough to be made in a thread",
                    "text": "é" * 40_000,
                    "html": "<p>é</p>",
                },
            ],
            secrets=(PASSWORD,),
            context=Context,
        )
    finally:
        await server.stop()

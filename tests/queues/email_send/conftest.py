"""Mail servers, and the e-mail module opened as its host would open it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tasks.email_send import EmailSend
from tests import job_context
from tests.queues.email_send.mail_server import MailServer, Script, ScriptedServer
from workers.contract import Services
from workers.queues.email_send import MODULE
from workers.queues.email_send.processor import open_email

MakeServer = Callable[..., Awaitable[MailServer]]
MakeScripted = Callable[..., Awaitable[ScriptedServer]]


class Context(job_context.Context):
    """A mail is sent or not: no part of it is declined, saved or logged, and nothing may fail once it is out."""

    allowed = frozenset()


Send = Callable[..., Awaitable[Any]]
OpenModule = Callable[..., Awaitable[Send]]


def mail(**fields: Any) -> EmailSend:
    """A task; what isn't given is harmless."""
    values = {"id": "k3j9x0ab12cd:reset-password", "to": ["dana@example.com"], "subject": "Hello", "text": "Hi Dana"}
    return EmailSend(**{**values, **fields})


@pytest.fixture
async def make_server() -> AsyncIterator[MakeServer]:
    """Mail servers; keyword arguments of MailServer first, the rest goes to aiosmtpd."""
    servers: list[MailServer] = []

    async def make(server: MailServer | None = None, **options: Any) -> MailServer:
        servers.append(server or MailServer())
        await servers[-1].start(**options)
        return servers[-1]

    yield make
    for server in servers:
        await server.stop()


@pytest.fixture
async def make_scripted() -> AsyncIterator[MakeScripted]:
    servers: list[ScriptedServer] = []

    async def make(script: Script, *, tls: ssl.SSLContext | None = None) -> ScriptedServer:
        servers.append(ScriptedServer(script))
        await servers[-1].start(tls)
        return servers[-1]

    yield make
    for server in servers:
        await server.stop()


@pytest.fixture
async def open_module() -> AsyncIterator[OpenModule]:
    """Opens the module for a server; the result sends one task. Closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def open_for(server: Any, *, slots: int = 5, **options: Any) -> Send:
            values = {"smtp_url": f"smtp://127.0.0.1:{server.port}", "from_alias": "hi@vrooli.test", **options}
            checked = MODULE.options.model_validate(values)
            processor = await stack.enter_async_context(open_email(Services(queue="email-send", slots=slots), checked))

            async def send(task: EmailSend | None = None, ctx: Context | None = None) -> Any:
                return await processor(task or mail(), ctx or Context())

            return send

        yield open_for

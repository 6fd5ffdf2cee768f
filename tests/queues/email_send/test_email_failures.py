"""What fails is retried or not, says server and step, and never spoils the next mail."""

from __future__ import annotations

import asyncio
import time

import pytest

from tasks.email_send import EmailSend
from tests.conftest import free_port, wait_until
from tests.queues.email_send.conftest import Context, MakeScripted, MakeServer, OpenModule, mail
from tests.queues.email_send.mail_server import CLOSE, HANG, MailServer, Talk
from workers.contract import JobError, PermanentError, TransientError


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("reply", "failure"), [("451 4.3.0 not now", TransientError), ("554 5.7.1 never", PermanentError)]
)
async def test_4xx_is_retried_and_5xx_is_not(
    make_server: MakeServer, open_module: OpenModule, command: str, reply: str, failure: type[JobError]
) -> None:
    server = await make_server(MailServer(script={command: [reply]}))
    send = await open_module(server)

    with pytest.raises(failure) as raised:
        await send()

    assert type(raised.value) is failure
    assert f"127.0.0.1:{server.port}" in str(raised.value)
    assert reply in str(raised.value)
    assert server.received == []

    # The refusal was about that mail: the connection is fit for the next one.
    await send()
    assert len(server.received) == 1
    assert len(server.protocols) == 1


async def test_greylisted_mail_is_delivered_by_the_next_attempt(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(MailServer(script={"RCPT": ["450 4.2.0 greylisted, come back later"]}))
    send = await open_module(server)

    with pytest.raises(TransientError, match="greylisted"):
        await send(mail(), Context(attempt=1))
    result = await send(mail(), Context(attempt=2))

    assert result["success"] is True
    assert len(server.received) == 1


async def test_one_recipient_who_may_come_round_makes_a_refusal_of_all_transient(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    refuse = {"gone@x.org": "550 5.1.1 no such user", "full@x.org": "452 4.2.2 mailbox full"}
    server = await make_server(MailServer(refuse=refuse))
    send = await open_module(server)

    with pytest.raises(TransientError, match=r"data\.to\.0: gone@x\.org: 550 .*data\.to\.1: full@x\.org: 452"):
        await send(mail(to=["gone@x.org", "full@x.org"]))
    with pytest.raises(PermanentError, match=r"data\.to\.0: gone@x\.org: 550 5\.1\.1 no such user"):
        await send(mail(to=["gone@x.org"]))


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_421_is_retried_on_a_new_connection(
    make_server: MakeServer, open_module: OpenModule, command: str
) -> None:
    server = await make_server(MailServer(script={command: ["421 4.3.2 going down"]}))
    send = await open_module(server)

    with pytest.raises(TransientError, match="421"):
        await send()
    await send()

    assert len(server.received) == 1
    assert len(server.protocols) == 2


@pytest.mark.parametrize(("command", "step"), [("MAIL", "MAIL FROM"), ("RCPT", "RCPT TO"), ("DATA", "message")])
async def test_connection_closed_in_the_middle_is_retried(
    make_server: MakeServer, open_module: OpenModule, command: str, step: str
) -> None:
    server = await make_server(MailServer(script={command: [CLOSE]}))
    send = await open_module(server)

    with pytest.raises(TransientError, match=f"{step}: the connection was lost") as raised:
        await send()

    assert ("may have been delivered" in str(raised.value)) == (command == "DATA")
    await send()
    assert len(server.received) == 1


@pytest.mark.parametrize(("command", "step"), [("MAIL", "MAIL FROM"), ("RCPT", "RCPT TO"), ("DATA", "message")])
async def test_silent_server_is_given_up_within_the_timeout(
    make_server: MakeServer, open_module: OpenModule, command: str, step: str
) -> None:
    server = await make_server(MailServer(script={command: [HANG]}))
    send = await open_module(server, timeout=0.2)

    with pytest.raises(TransientError, match=f"127.0.0.1:{server.port}, {step}: no answer in time"):
        await send()

    await wait_until(lambda: server.open == 0)
    await send()
    assert len(server.received) == 1
    assert len(server.protocols) == 2


async def test_silent_server_is_given_up_before_the_jobs_own_deadline(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(MailServer(script={"MAIL": [HANG]}))
    send = await open_module(server, timeout=600)

    with pytest.raises(TransientError, match="MAIL FROM: no answer in time"):
        await send(mail(), Context(deadline=time.monotonic() + 1))


async def test_server_that_never_greets_is_given_up(make_scripted: MakeScripted, open_module: OpenModule) -> None:
    server = await make_scripted(Talk.hang)
    send = await open_module(server, timeout=0.2)

    with pytest.raises(TransientError, match="connect: no answer in time"):
        await send()


async def test_server_that_is_down_is_retried(open_module: OpenModule) -> None:
    server = MailServer(port=free_port())
    send = await open_module(server)

    with pytest.raises(TransientError, match=f"SMTP server 127.0.0.1:{server.port}, connect: Connection refused"):
        await send()


async def test_unknown_host_is_retried(open_module: OpenModule) -> None:
    send = await open_module(MailServer(), smtp_url="smtp://mail.invalid:25", timeout=5)

    with pytest.raises(TransientError, match=r"SMTP server mail\.invalid:25, connect: "):
        await send()


async def test_421_for_one_of_the_recipients_is_about_all(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(MailServer(script={"RCPT": ["250 OK", "421 4.3.2 going down"]}))
    send = await open_module(server)

    with pytest.raises(TransientError, match=r"RCPT TO: 421 4\.3\.2 going down"):
        await send(mail(to=["a@x.org", "b@x.org", "c@x.org"]))

    assert server.received == []


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "EHLO"])
async def test_cancelled_job_drops_its_connection(
    make_server: MakeServer, make_scripted: MakeScripted, open_module: OpenModule, command: str
) -> None:
    reached = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.say("220 mail.test")
        for reply in ("250 mail.test", "250 ok", "250 ok", "354 go"):
            if (await talk.hear()).startswith(command):
                reached.set()
                await talk.hang()
                return
            await talk.say(reply)

    server = await make_scripted(script)
    send = await open_module(server)
    sending = asyncio.ensure_future(send())
    await reached.wait()

    sending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await sending
    # The server sees the end of the connection, and the next mail comes by another one.
    reached.clear()
    with pytest.raises(TransientError):
        await send(mail(), Context(deadline=time.monotonic() + 0.6))
    assert server.connections == 2


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_kept_connection_of_a_cancelled_job_is_not_used_again(
    make_server: MakeServer, open_module: OpenModule, command: str
) -> None:
    server = await make_server()
    send = await open_module(server)
    await send()
    server.script[command] = [HANG]
    sending = asyncio.ensure_future(send())
    await wait_until(lambda: server.commands.count(command) == 2)

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    await wait_until(lambda: server.open == 0)
    await send()
    assert len(server.received) == 2
    assert len(server.protocols) == 2


async def test_slow_mail_doesnt_hold_up_others(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(MailServer(script={"MAIL": [HANG]}))
    send = await open_module(server, slots=2)
    stuck = asyncio.ensure_future(send())
    await wait_until(lambda: "MAIL" in server.commands)

    for _ in range(3):
        await send()

    assert len(server.received) == 3
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck


@pytest.mark.parametrize("words", [{}, {"subject": "Hello"}])
async def test_mail_of_a_template_is_not_sent_as_something_else(
    make_server: MakeServer, open_module: OpenModule, words: dict[str, str]
) -> None:
    server = await make_server(MailServer())
    send = await open_module(server)
    task = EmailSend.model_validate(
        {"type": "email-send", "id": "1", "to": ["a@x.org"], "template": "welcome", **words}
    )

    with pytest.raises(PermanentError, match=r"data\.template: 'welcome': templates are not rendered here yet"):
        await send(task)

    assert server.received == []

"""Connections: few, kept, replaced when they died, closed at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.queues.email_send.conftest import Context, MakeServer, OpenModule, mail
from tests.queues.email_send.mail_server import CLOSE, HANG, MailServer
from workers.contract import Services, TransientError
from workers.queues.email_send import pool
from workers.queues.email_send.options import EmailOptions
from workers.queues.email_send.processor import open_email


def options(server: MailServer, **more: object) -> EmailOptions:
    return EmailOptions.model_validate(
        {"smtp_url": f"smtp://127.0.0.1:{server.port}", "from_alias": "hi@vrooli.test", **more}
    )


async def test_mails_follow_each_other_on_one_connection(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server)

    for _ in range(5):
        await send()

    assert len(server.received) == 5
    assert len(server.protocols) == 1


async def test_as_many_connections_as_slots_and_no_more(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(MailServer(gate=asyncio.Event()))
    assert server.gate is not None
    send = await open_module(server, slots=5)
    sending = [asyncio.ensure_future(send(mail(id=f"m{number}", text=str(number)))) for number in range(20)]

    await wait_until(lambda: server.commands.count("RCPT") == 5)
    server.gate.set()
    await asyncio.gather(*sending)

    assert server.peak == 5
    assert len(server.protocols) == 5
    assert sorted(int(each.message.get_content()) for each in server.received) == list(range(20))


async def test_connection_that_died_while_idle_is_replaced_unnoticed(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server()
    send = await open_module(server)
    await send()

    server.drop_connections()
    await wait_until(lambda: server.open == 0)
    result = await send()

    assert result["success"] is True
    assert len(server.received) == 2
    assert len(server.protocols) == 2


@pytest.mark.parametrize("death", [CLOSE, HANG, "421 4.7.0 too many messages on this connection"])
async def test_kept_connection_that_fails_at_mail_from_is_replaced_once(
    make_server: MakeServer, open_module: OpenModule, death: str
) -> None:
    server = await make_server()
    send = await open_module(server, timeout=0.5)
    await send()

    server.script["MAIL"] = [death]
    await send()

    assert len(server.received) == 2
    assert len(server.protocols) == 2

    server.script["MAIL"] = [death, death]
    with pytest.raises(TransientError, match="MAIL FROM"):
        await send()


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
async def test_nothing_is_sent_twice_after_mail_from(
    make_server: MakeServer, open_module: OpenModule, command: str
) -> None:
    server = await make_server()
    send = await open_module(server)
    await send()
    server.commands.clear()

    server.script[command] = [CLOSE]
    with pytest.raises(TransientError):
        await send()

    assert server.commands.count("MAIL") == 1


async def test_refusal_whose_reset_fails_costs_the_connection_alone(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(MailServer(script={"RCPT": ["450 later"], "RSET": ["500 what?"]}))
    send = await open_module(server)

    with pytest.raises(TransientError, match="450 later"):
        await send()
    await send()

    assert len(server.protocols) == 2
    assert len(server.received) == 1


async def test_opening_connects_to_nothing(make_server: MakeServer) -> None:
    server = await make_server()
    async with open_email(Services(queue="email-send", slots=5), options(server)):
        pass
    assert server.protocols == []


async def test_closing_takes_leave_on_every_idle_connection(make_server: MakeServer) -> None:
    server = await make_server(MailServer(gate=asyncio.Event()))
    assert server.gate is not None
    async with open_email(Services(queue="email-send", slots=3), options(server)) as processor:
        sending = [asyncio.ensure_future(processor(mail(), Context())) for _ in range(3)]
        await wait_until(lambda: server.commands.count("RCPT") == 3)
        server.gate.set()
        await asyncio.gather(*sending)
        assert server.open == 3

    assert server.commands.count("QUIT") == 3
    await wait_until(lambda: server.open == 0)


async def test_closing_doesnt_wait_for_a_server_that_ignores_quit(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLOSING_S", 0.1)
    server = await make_server(MailServer(script={"QUIT": [HANG]}))
    async with open_email(Services(queue="email-send", slots=1), options(server)) as processor:
        await processor(mail(), Context())

    assert "QUIT" in server.commands
    await wait_until(lambda: server.open == 0)


async def test_connection_lent_out_while_closing_is_not_kept(make_server: MakeServer) -> None:
    server = await make_server(MailServer(gate=asyncio.Event()))
    assert server.gate is not None
    async with open_email(Services(queue="email-send", slots=1), options(server)) as processor:
        sending = asyncio.ensure_future(processor(mail(), Context()))
        await wait_until(lambda: "RCPT" in server.commands)

    server.gate.set()
    result: Any = await sending
    assert result["success"] is True
    await wait_until(lambda: server.open == 0)


async def test_closing_one_that_cannot_be_reached_any_more_is_silent(make_server: MakeServer) -> None:
    server = await make_server()
    async with open_email(Services(queue="email-send", slots=1), options(server)) as processor:
        await processor(mail(), Context())
        await server.stop()
    assert server.open == 0

"""Servers that no library plays: what they say is bounded, understood or survived."""

from __future__ import annotations

import pytest

from tests.conftest import wait_until
from tests.queues.email_send.conftest import MakeScripted, OpenModule
from tests.queues.email_send.mail_server import Talk
from workers.contract import PermanentError, TransientError


@pytest.mark.parametrize("greeting", ["554 5.3.2 no service here", "421 4.3.2 try later", "hello", "220", "999 what"])
async def test_odd_greeting_says_nothing_about_the_mail(
    make_scripted: MakeScripted, open_module: OpenModule, greeting: str
) -> None:
    async def script(talk: Talk) -> None:
        await talk.say(greeting)

    server = await make_scripted(script)
    send = await open_module(server, timeout=0.5)

    with pytest.raises(TransientError, match=f"127.0.0.1:{server.port}"):
        await send()


async def greet(talk: Talk) -> None:
    await talk.say("220 mail.test")
    assert (await talk.hear()).startswith("EHLO")
    await talk.say("250-mail.test", "250 SIZE 0")


async def test_refused_data_command_sends_no_message(make_scripted: MakeScripted, open_module: OpenModule) -> None:
    heard: list[str] = []

    async def script(talk: Talk) -> None:
        await greet(talk)
        for reply in ("250 ok", "250 ok", "552 5.3.4 too big", "250 reset", "221 bye"):
            heard.append(await talk.hear())
            await talk.say(reply)

    send = await open_module(await make_scripted(script))

    with pytest.raises(PermanentError, match=r"DATA: 552 5\.3\.4 too big"):
        await send()

    assert heard[2:] == ["DATA", "RSET"]


async def test_too_many_recipients_for_the_server_is_retried(
    make_scripted: MakeScripted, open_module: OpenModule
) -> None:
    async def script(talk: Talk) -> None:
        await greet(talk)
        for reply in ("250 ok", "552 too many recipients", "250 reset", "221 bye"):
            await talk.hear()
            await talk.say(reply)

    send = await open_module(await make_scripted(script))

    with pytest.raises(TransientError, match="552 too many recipients"):
        await send()


async def test_connection_that_talks_nonsense_is_not_used_again(
    make_scripted: MakeScripted, open_module: OpenModule
) -> None:
    heard: list[str] = []

    async def script(talk: Talk) -> None:
        await greet(talk)
        heard.append((await talk.hear()).split(":")[0])
        await talk.say("what?")
        heard.append(await talk.hear())

    server = await make_scripted(script)
    send = await open_module(server)

    for connections in (1, 2):
        with pytest.raises(TransientError, match="MAIL FROM"):
            await send()
        assert server.connections == connections
    await wait_until(lambda: heard == ["MAIL FROM", ""] * 2)


async def test_flood_instead_of_a_reply_is_bounded(make_scripted: MakeScripted, open_module: OpenModule) -> None:
    async def script(talk: Talk) -> None:
        await greet(talk)
        await talk.hear()
        for _ in range(200):
            await talk.say(b"250-" + b"\xff\x00" * 4000)
        await talk.hang()

    send = await open_module(await make_scripted(script))

    with pytest.raises(TransientError) as raised:
        await send()

    assert len(str(raised.value)) < 500


async def test_replies_are_cut_to_one_safe_line(make_scripted: MakeScripted, open_module: OpenModule) -> None:
    async def script(talk: Talk) -> None:
        await greet(talk)
        await talk.hear()
        await talk.say("550-\x1b[31mred", b"550-\xff\xfe", "550 " + "x" * 5000)
        await talk.hang()

    send = await open_module(await make_scripted(script), timeout=0.5)

    with pytest.raises(PermanentError) as raised:
        await send()

    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


async def test_server_from_before_esmtp_gets_its_helo(make_scripted: MakeScripted, open_module: OpenModule) -> None:
    heard: list[str] = []

    async def script(talk: Talk) -> None:
        await talk.say("220 old")
        for reply in ("502 what?", "250 hello", "250 ok", "250 ok", "354 go"):
            heard.append((await talk.hear()).split()[0])
            await talk.say(reply)
        while await talk.hear() != ".":
            pass
        await talk.say("251 taken")
        await talk.hear()
        await talk.say("221 bye")

    send = await open_module(await make_scripted(script))

    result = await send()

    assert heard == ["EHLO", "HELO", "MAIL", "RCPT", "DATA"]
    assert result["info"]["response"] == "251 taken"

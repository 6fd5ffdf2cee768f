"""A mail's way to a real SMTP server: what arrives, and what the job returns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.codec import decode
from tasks.email_send import EmailSend
from tests.queues.email_send.conftest import Context, MakeServer, OpenModule, mail
from tests.queues.email_send.mail_server import MailServer
from workers.contract import HandBack, PermanentError, StopRequest

EXAMPLES = json.loads((Path(__file__).parents[3] / "workers/dev/example_jobs.json").read_text())


def example(number: int) -> EmailSend:
    task = decode(EXAMPLES[number]["data"])
    assert isinstance(task, EmailSend)
    return task


async def test_nodes_reset_mail_arrives_at_both_recipients(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server, from_name="Vrooli", from_alias="hi@vrooli.test")

    await send(example(0))

    (received,) = server.received
    assert received.sender == "hi@vrooli.test"
    assert received.recipients == ["dana@example.com", "dana.alt@example.com"]
    assert received.message["From"] == "Vrooli <hi@vrooli.test>"
    assert received.message["To"] == "dana@example.com, dana.alt@example.com"
    assert received.message["Subject"] == "Example Password Reset"
    assert [part.get_content_type() for part in received.message.iter_parts()] == ["text/plain", "text/html"]
    plain, html = (part.get_content() for part in received.message.iter_parts())
    assert plain.strip() == example(0).text
    assert html.strip() == example(0).html


async def test_nodes_mail_with_empty_html_arrives_as_plain_text(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server()
    send = await open_module(server)

    await send(example(1))

    message = server.received[0].message
    assert message.get_content_type() == "text/plain"
    assert message.get_content().strip() == 'You earned "First Routine" & unlocked a badge'


async def test_result_is_what_node_returns(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server)

    result = await send()

    info = result["info"]
    content = server.received[0].content
    assert result["success"] is True
    assert info["accepted"] == ["dana@example.com"]
    assert info["rejected"] == []
    assert info["rejectedErrors"] == []
    assert info["envelope"] == {"from": "hi@vrooli.test", "to": ["dana@example.com"]}
    assert info["messageId"] == server.received[0].message["Message-ID"]
    assert info["response"] == "250 2.0.0 queued as 4711"
    assert info["messageSize"] == len(content)
    assert info["messageTime"] >= 0 and info["envelopeTime"] >= 0
    assert json.loads(json.dumps(result)) == result


async def test_partial_refusal_completes_and_reports_who_was_refused(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    refuse = {"gone@example.com": "550 5.1.1 no such user", "later@example.com": "451 4.7.1 greylisted"}
    server = await make_server(MailServer(refuse=refuse))
    send = await open_module(server)

    result = await send(mail(to=["gone@example.com", "dana@example.com", "later@example.com", "nonsense"]))

    assert server.received[0].recipients == ["dana@example.com"]
    assert result["success"] is False
    assert result["info"]["accepted"] == ["dana@example.com"]
    assert result["info"]["rejected"] == ["gone@example.com", "later@example.com", "nonsense"]
    reasons = [(each["responseCode"], each["response"]) for each in result["info"]["rejectedErrors"]]
    assert reasons == [
        (550, "550 5.1.1 no such user"),
        (451, "451 4.7.1 greylisted"),
        (None, "not an e-mail address: it has no @"),
    ]


async def test_nobody_with_an_address_fails_for_good_without_connecting(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server()
    send = await open_module(server)

    with pytest.raises(PermanentError) as failure:
        await send(mail(to=["nonsense", "a@b@c"]))

    assert str(failure.value).startswith("data.to.0: nonsense: not an e-mail address: it has no @; data.to.1: a@b@c: ")
    assert server.protocols == []


async def test_recipient_listed_twice_gets_one_mail(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server)

    result = await send(mail(to=["dana@example.com", "Dana <dana@EXAMPLE.com>", "dana@example.com"]))

    assert server.received[0].recipients == ["dana@example.com"]
    assert result["info"]["accepted"] == ["dana@example.com"]


async def test_too_many_recipients_fail_for_good(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server, max_recipients=2)

    await send(mail(to=["a@x.org", "b@x.org"]))
    with pytest.raises(PermanentError, match=r"data\.to: 3 recipients, more than the 2 allowed"):
        await send(mail(to=["a@x.org", "b@x.org", "c@x.org"]))


async def test_every_attempt_carries_the_same_message_id(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server)

    await send(mail())
    await send(mail(), Context(attempt=2, fence=2))
    await send(mail(text="another reset link"))

    first, second, other = (each.message["Message-ID"] for each in server.received)
    assert first == second
    assert first.endswith("@vrooli.test>")
    assert other != first


async def test_international_addresses_and_texts_arrive(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server, from_name="Vrööli 🚀")

    await send(mail(to=["jürgen@straße.de"], subject="Grüße 🚀 " * 20, text="żółć\n" + "é" * 5000))

    (received,) = server.received
    assert received.recipients == ["jürgen@xn--strae-oqa.de"]
    assert "SMTPUTF8" in received.parameters
    assert received.message["Subject"] == ("Grüße 🚀 " * 20).strip()
    assert received.message["From"] == "Vrööli 🚀 <hi@vrooli.test>"
    assert received.message.get_content().splitlines() == ["żółć", "é" * 5000]
    assert max(map(len, received.content.splitlines())) <= 998


async def test_without_smtputf8_only_the_international_address_is_refused(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(enable_SMTPUTF8=False)
    send = await open_module(server)

    result = await send(mail(to=["jürgen@example.com", "dana@example.com"], text="Grüße"))

    assert server.received[0].recipients == ["dana@example.com"]
    assert server.received[0].message["To"] == "dana@example.com"
    assert result["info"]["rejected"] == ["jürgen@example.com"]
    assert "no SMTPUTF8" in result["info"]["rejectedErrors"][0]["response"]
    with pytest.raises(PermanentError, match=r"no recipient left: data\.to\.0: jürgen@example\.com"):
        await send(mail(to=["jürgen@example.com"]))


@pytest.mark.parametrize("more", ["", "\x00\x1b\ud83d"])
async def test_lines_with_dots_and_hostile_texts_arrive_as_one_mail(
    make_server: MakeServer, open_module: OpenModule, more: str
) -> None:
    server = await make_server()
    send = await open_module(server)
    text = f".\r\n.hidden\r\nRCPT TO:<evil@example.com>\n.\r..\nQUIT{more}"

    await send(mail(text=text, subject="a\r\nBcc: evil@example.com"))

    (received,) = server.received
    assert received.recipients == ["dana@example.com"]
    assert received.message["Bcc"] is None
    assert received.message["Subject"] == "a Bcc: evil@example.com"
    last = "QUIT\ufffd" if more else "QUIT"
    expected = [".", ".hidden", "RCPT TO:<evil@example.com>", ".", "..", last]
    assert received.message.get_content().splitlines() == expected


async def test_message_above_the_servers_size_fails_for_good_before_it_is_sent(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(data_size_limit=5_000)
    send = await open_module(server)

    with pytest.raises(PermanentError, match=r"the message has 6,\d+ bytes, .* takes 5,000 at most"):
        await send(mail(text="x" * 60 + "\n" + "long line\n" * 600))
    assert "MAIL" not in server.commands

    await send(mail())
    assert len(server.received) == 1
    assert len(server.protocols) == 1


async def test_large_mail_arrives_whole(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server)
    html = "<p>" + "lorem ipsum é " * 150_000 + "</p>"

    await send(mail(text="short", html=html))

    _, received = server.received[0].message.iter_parts()
    assert received.get_content().strip() == html


async def test_drain_hands_the_job_back_before_anything_is_sent(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server()
    send = await open_module(server)
    stop = StopRequest(kind="drain", reason="shutting down", by=0.0)

    outcome = await send(mail(), replace(Context(), stop=stop))

    assert outcome == HandBack(reason="shutting down")
    assert server.protocols == []

"""The bytes of a mail, read back by Python's own parser."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.email_send import EmailSend
from workers.queues.email_send.address import Mailbox
from workers.queues.email_send.message import Mail, compose

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
SENDER = Mailbox("hi", "vrooli.test", "Vrooli")


def made(sender: Mailbox = SENDER, **fields: Any) -> Mail:
    values = {"id": "1", "to": ["dana@example.com"], "subject": "Hello", "text": "Hi", **fields}
    return compose(EmailSend(**values), sender, NOW)


def read(mail: Mail) -> EmailMessage:
    return message_from_bytes(mail.render(mail.recipients), policy=policy.SMTPUTF8)


def parts(mail: Mail) -> dict[str, str]:
    found = [part for part in read(mail).walk() if not part.is_multipart()]
    return {part.get_content_type(): part.get_content().replace("\r\n", "\n").rstrip("\n") for part in found}


def test_headers_are_complete_and_each_there_once() -> None:
    message = read(made())
    assert message.keys()[:5] == ["From", "To", "Subject", "Date", "Message-ID"]
    assert sorted(message.keys()) == sorted(set(message.keys()))
    assert message["From"] == "Vrooli <hi@vrooli.test>"
    assert message["Date"].datetime == NOW


def test_simple_headers_are_readable_on_the_wire() -> None:
    mail = made(to=["Dana <dana@example.com>", "sam@example.org"])
    wire = mail.render(mail.recipients)
    assert b'From: "Vrooli" <hi@vrooli.test>\r\nTo: "Dana" <dana@example.com>, sam@example.org\r\n' in wire
    assert b"\r\nSubject: Hello\r\nDate: Tue, 24 Nov 2026 09:30:00 +0000\r\n" in wire


@pytest.mark.parametrize(
    "subject",
    [
        "a\r\nBcc: evil@example.com",
        "a\nBcc: evil@example.com",
        "a\r Bcc: evil@example.com",
        "=?utf-8?q?a=0D=0ABcc:_evil@example.com?=",
        "=?utf-8?b?YQ0KQmNjOiBldmlsQGV4YW1wbGUuY29t?=",
        "a\u2028Bcc: evil@example.com",
        "a\x85Bcc: evil@example.com\x0b\x1c",
        "x" * 2000 + "\r\nBcc: evil@example.com",
    ],
)
def test_subject_adds_no_header(subject: str) -> None:
    mail = made(subject=subject)
    assert read(mail).keys() == read(made()).keys()
    assert b"\nBcc" not in mail.render(mail.recipients)


def test_subject_that_looks_encoded_is_shown_as_it_is() -> None:
    assert read(made(subject="=?utf-8?q?free?=")).get("Subject") == "=?utf-8?q?free?="


def test_name_that_looks_encoded_or_quotes_is_shown_as_it_is() -> None:
    sender = Mailbox("hi", "vrooli.test", '=?utf-8?q?x?= "V" \\ , <a@b>')
    (address,) = read(made(sender))["From"].addresses
    assert (address.display_name, address.addr_spec) == (sender.name, "hi@vrooli.test")
    (address,) = read(made(Mailbox("hi", "vrooli.test", 'Vr"oo\\li, Inc.')))["From"].addresses
    assert address.display_name == 'Vr"oo\\li, Inc.'


def test_long_headers_are_folded() -> None:
    mail = made(to=[f"Recipient Number {n} <r{n}@example.com>" for n in range(40)], subject="Ä" * 900)
    head = mail.render(mail.recipients).split(b"\r\n\r\n")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert len(read(mail)["To"].addresses) == 40
    assert read(mail)["Subject"] == "Ä" * 900


def test_subject_of_any_length_is_cut() -> None:
    assert read(made(subject="word " * 100_000))["Subject"] == ("word " * 180).strip()


def test_both_texts_become_alternatives_with_html_last() -> None:
    mail = made(text="plain", html="<p>rich</p>")
    assert read(mail).get_content_type() == "multipart/alternative"
    assert list(parts(mail).items()) == [("text/plain", "plain"), ("text/html", "<p>rich</p>")]


@pytest.mark.parametrize("html", [None, "", "  \n"])
def test_without_html_it_is_plain_text_alone(html: str | None) -> None:
    assert parts(made(text="plain", html=html)) == {"text/plain": "plain"}


def test_missing_plain_text_is_derived_with_its_links() -> None:
    html = '<h1>Reset</h1><p>Use <a href="https://x.org/reset?c=1&amp;d=2">this link</a>.</p><style>p{}</style>'
    derived = parts(made(text=" ", html=html))["text/plain"]
    assert "Reset" in derived and "[this link](https://x.org/reset?c=1&d=2)" in derived
    assert "p{}" not in derived


def test_html_without_any_text_goes_alone() -> None:
    assert parts(made(text="", html="<img src=cid:1>")) == {"text/html": "<img src=cid:1>"}


def test_empty_mail_is_still_a_mail() -> None:
    assert parts(made(text="", html="")) == {"text/plain": ""}


def test_control_characters_and_half_emoji_are_made_harmless() -> None:
    mail = made(text="a\x00b\x1b[31m\tc\ud83d", html="<p>\x08x\udc00</p>")
    assert parts(mail) == {"text/plain": "ab[31m\tc\ufffd", "text/html": "<p>x\ufffd</p>"}


@pytest.mark.parametrize("plain", ["é", "x" * 5000 + "é"])
def test_every_line_is_short_ascii(plain: str) -> None:
    mail = made(text=plain, html="<p>" + "日本語" * 3000 + "</p>")
    wire = mail.render(mail.recipients)
    assert wire.isascii()
    assert max(map(len, wire.split(b"\r\n"))) <= 78
    assert b"\n" not in wire.replace(b"\r\n", b"")


def test_message_id_depends_on_task_and_content_alone() -> None:
    values: dict[str, Any] = {"id": "u1:reset-password", "text": "code 1", "html": "<p>", "to": ["a@x.org"]}
    first = made(**values).message_id
    later = compose(EmailSend(subject="Hello", **values), SENDER, datetime(2027, 1, 1, tzinfo=UTC)).message_id
    assert first == later
    others: list[dict[str, Any]] = [
        {"id": "u2"},
        {"text": "code 2"},
        {"html": "<b>"},
        {"to": ["b@x.org"]},
        {"subject": "Again"},
    ]
    assert len({first, *(made(**{**values, **change}).message_id for change in others)}) == 6
    assert first.startswith("<") and first.endswith("@vrooli.test>")


def test_refused_entries_keep_their_place_and_are_shown_safely() -> None:
    mail = made(to=["a@x.org", "no\r\nBcc: b@x.org", "a@x.org", "x" * 1000, "no\r\nBcc: b@x.org"])
    assert [each.entry for each in mail.recipients] == [0]
    assert [(each.entry, each.recipient) for each in mail.refused] == [(1, "no Bcc: b@x.org"), (3, "x" * 100)]


def test_international_local_parts_need_smtputf8() -> None:
    mail = made(to=["jürgen@x.org", "dana@x.org"])
    able, refused = mail.split(smtputf8=False)
    assert [each.mailbox.path for each in able] == ["dana@x.org"]
    assert [(each.entry, each.recipient) for each in refused] == [(0, "jürgen@x.org")]
    assert mail.split(smtputf8=True) == (mail.recipients, ())
    assert "jürgen@x.org" in mail.render(mail.recipients).decode()


anything = st.text(st.characters(), max_size=60)


@settings(deadline=None)
@given(subject=anything, text=anything, html=anything, name=anything, to=st.lists(anything, min_size=1, max_size=4))
def test_whatever_the_task_says_the_mail_is_sound(subject: str, text: str, html: str, name: str, to: list[str]) -> None:
    mail = made(Mailbox("hi", "vrooli.test", name), subject=subject, text=text, html=html, to=[*to, "dana@x.org"])
    message = read(mail)

    assert set(message.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    assert [each.addr_spec for each in message["From"].addresses] == ["hi@vrooli.test"]
    assert [each.addr_spec for each in message["To"].addresses][-1] == "dana@x.org"
    assert {each.mailbox.path for each in mail.recipients} == {each.addr_spec for each in message["To"].addresses}
    assert not any(part.defects for part in message.walk())

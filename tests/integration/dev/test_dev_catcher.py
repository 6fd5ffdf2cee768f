from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import aiosmtplib
import pytest

from workers.dev import DevError
from workers.dev.catcher import MailCatcher
from workers.dev.mail_folder import CaughtMail

Start = Callable[[MailCatcher], Awaitable[MailCatcher]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[MailCatcher] = []

    async def start_one(catcher: MailCatcher) -> MailCatcher:
        started.append(catcher)
        await catcher.start()
        return catcher

    yield start_one
    for catcher in started:
        await catcher.stop(by=time.monotonic() + 2)


def mail(subject: str = "Hello", to: str = "dana@example.com", text: str = "one\n.\n..two\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "hi@example.org"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = "<job/7@example.org>"
    message.set_content(text)
    return message


async def send(catcher: MailCatcher, message: EmailMessage, recipients: list[str] | None = None) -> dict[str, object]:
    url = urlsplit(catcher.url)
    refused, _ = await aiosmtplib.send(
        message, recipients=recipients, hostname=url.hostname, port=url.port, start_tls=False, timeout=10
    )
    return dict(refused)


def stored(catcher: MailCatcher) -> list[Path]:
    return sorted(catcher.directory.glob("*.eml"))


async def test_message_is_stored_whole_with_its_envelope(tmp_path: Path, start: Start) -> None:
    seen: list[CaughtMail] = []
    catcher = await start(MailCatcher(tmp_path / "mails", on_mail=seen.append))
    assert await send(catcher, mail("Prix: 3 €"), ["dana@example.com", "sam@example.org"]) == {}

    [path] = stored(catcher)
    assert path.name.endswith("-job_7.eml")
    caught = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert caught["X-RcptTo"] == "dana@example.com, sam@example.org"
    assert caught["X-MailFrom"] == "hi@example.org"
    assert caught["Subject"] == "Prix: 3 €"
    assert caught.get_content().replace("\r\n", "\n") == "one\n.\n..two\n"
    assert [(one.path, one.subject) for one in seen] == [(path, "Prix: 3 €")]
    assert catcher.count == 1


async def test_address_that_says_retry_is_put_off_once(tmp_path: Path, start: Start) -> None:
    catcher = await start(MailCatcher(tmp_path))
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refusal:
        await send(catcher, mail(), ["retry-7@example.com"])
    assert [one.code for one in refusal.value.recipients] == [451]
    assert stored(catcher) == []
    assert await send(catcher, mail(), ["retry-7@example.com"]) == {}
    assert (catcher.count, catcher.refused) == (1, 1)


async def test_address_that_says_bounce_is_refused_beside_others_that_are_not(tmp_path: Path, start: Start) -> None:
    catcher = await start(MailCatcher(tmp_path))
    refused = await send(catcher, mail(), ["no.bounce@example.com", "sam@bounce.example.org"])
    assert list(refused) == ["no.bounce@example.com"]
    [path] = stored(catcher)
    assert b"X-RcptTo: sam@bounce.example.org\r\n" in path.read_bytes()


async def test_random_share_is_refused_anew_each_time(tmp_path: Path, start: Start) -> None:
    catcher = await start(MailCatcher(tmp_path, fail_share=1.0))
    for _ in range(2):
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await send(catcher, mail(), ["dana@example.com"])
    assert catcher.refused == 2


async def test_only_the_newest_messages_stay_over_restarts(tmp_path: Path, start: Start) -> None:
    first = await start(MailCatcher(tmp_path, keep=3))
    for number in range(4):
        await send(first, mail(f"first {number}"))
    await first.stop(by=time.monotonic() + 2)
    (tmp_path / "notes.txt").write_text("mine")

    second = await start(MailCatcher(tmp_path, keep=2))
    await send(second, mail("second"))
    subjects = [email.message_from_bytes(path.read_bytes())["Subject"] for path in stored(second)]
    assert subjects == ["first 3", "second"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


async def test_envelope_can_not_inject_headers(tmp_path: Path, start: Start) -> None:
    catcher = await start(MailCatcher(tmp_path))
    port = urlsplit(catcher.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for line in (
        b"EHLO x",
        b"MAIL FROM:<a\rX-Evil: 1@example.com>",
        b"RCPT TO:<b\x00\x1b[31m\xff@example.com>",
        b"MAIL FROM:<a@example.com>",
        b"RCPT TO:<b@example.com>",
        b"DATA",
    ):
        writer.write(line + b"\r\n")
    writer.write(b"Subject: =?nonsense?x?=\r\n\r\nbody \xff\r\n.\r\nQUIT\r\n")
    replies = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert b"stored as" in replies
    [path] = stored(catcher)
    head = path.read_bytes().split(b"\r\n\r\n")[0]
    assert b"\nX-Evil" not in head
    assert b"\x1b" not in head


async def test_client_that_hangs_up_mid_message_leaves_nothing_and_hurts_no_one(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    catcher = await start(MailCatcher(tmp_path))
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(catcher.url).port)
    writer.write(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: half")
    await writer.drain()
    writer.transport.abort()
    assert await send(catcher, mail()) == {}
    assert len(stored(catcher)) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_too_large_message_is_refused(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.dev.catcher.LARGEST_MESSAGE", 1000)
    catcher = await start(MailCatcher(tmp_path))
    with pytest.raises(aiosmtplib.SMTPResponseException) as refusal:
        await send(catcher, mail(text="x" * 60 + "\n" + "y" * 2000))
    assert refusal.value.code == 552
    assert stored(catcher) == []


async def test_folder_that_vanished_puts_the_message_off(tmp_path: Path, start: Start) -> None:
    catcher = await start(MailCatcher(tmp_path / "mails"))
    (tmp_path / "mails").rmdir()
    with pytest.raises(aiosmtplib.SMTPDataError) as refusal:
        await send(catcher, mail())
    assert refusal.value.code == 452
    (tmp_path / "mails").mkdir()
    assert await send(catcher, mail()) == {}


async def test_failing_listener_does_not_refuse_the_message(tmp_path: Path, start: Start) -> None:
    def fail(_mail: CaughtMail) -> None:
        raise RuntimeError("listener")

    catcher = await start(MailCatcher(tmp_path, on_mail=fail))
    assert await send(catcher, mail()) == {}
    assert catcher.count == 1


async def test_stop_disconnects_idle_clients_and_may_come_twice_or_first(tmp_path: Path) -> None:
    await MailCatcher(tmp_path).stop(by=time.monotonic())
    catcher = MailCatcher(tmp_path)
    await catcher.start()
    waiting = asyncio.create_task(catcher.wait())
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(catcher.url).port)
    assert (await reader.readline()).startswith(b"220 ")
    await catcher.stop(by=time.monotonic() + 2)
    await catcher.stop(by=time.monotonic() + 2)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await asyncio.wait_for(waiting, 5)
    assert not catcher.health().ok


async def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DevError, match=f"can't listen on 127.0.0.1:{port}: "):
            await MailCatcher(tmp_path, port=port).start()


async def test_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevError, match=r"can't store mails in .*file: File exists"):
        await MailCatcher(tmp_path / "file").start()


async def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiosmtpd.smtp", None)
    with pytest.raises(DevError, match=r"needs the package aiosmtpd: install fleet-workers\[embedded\]"):
        await MailCatcher(tmp_path).start()

"""From a task to the mail that goes over the wire. Pure: same arguments, same mail, but for MIME boundaries.

Headers are written here and not by email.message, whose header classes parse what they are given: a subject like
`=?utf-8?q?x=0ABcc:…?=` comes out of them as a line break and a Bcc header (CVE-2024-6923).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, quote

from tasks.email_send import EmailSend
from workers.queues.email_send import text
from workers.queues.email_send.address import Mailbox, NotAnAddress, parse

#: Characters that are shown of an entry that is no address.
SHOWN_CHARS = 100
#: Columns after which headers are folded (RFC 5322 §2.1.1).
COLUMNS = 76
# 7bit: base64 or quoted-printable where needed, so that no server has to know 8BITMIME (RFC 6152).
_POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient who doesn't get the mail."""

    entry: int
    """Its place in the task's `to`."""
    recipient: str
    response: str
    code: int | None = None
    """The server's reply code; None: refused here, before asking it."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone who is to get the mail."""

    entry: int
    """Its place in the task's `to`."""
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail, ready but for what depends on the server's abilities."""

    sender: Mailbox
    recipients: tuple[Recipient, ...]
    """Each mailbox once, in the order of the task."""
    refused: tuple[Refusal, ...]
    """Entries of `to` that are no addresses."""
    subject: str
    date: datetime
    message_id: str
    body: bytes
    """Content headers and content."""

    def split(self, *, smtputf8: bool) -> tuple[tuple[Recipient, ...], tuple[Refusal, ...]]:
        """Who can get it through a server with or without SMTPUTF8 (RFC 6531), and who can't."""
        able = tuple(each for each in self.recipients if smtputf8 or not each.mailbox.needs_smtputf8)
        unable = (each for each in self.recipients if not smtputf8 and each.mailbox.needs_smtputf8)
        reason = "the server can't take letters beyond ASCII before the @ (no SMTPUTF8)"
        return able, self.refused + tuple(Refusal(each.entry, each.mailbox.path, reason) for each in unable)

    def render(self, recipients: Sequence[Recipient]) -> bytes:
        """The message with these in its To header: CRLF line ends, ASCII unless an address is not."""
        headers = (
            f"From: {_mailbox(self.sender)}",
            _folded("To", [_mailbox(each.mailbox) for each in recipients]),
            f"Subject: {_unstructured(self.subject, 'Subject')}",
            f"Date: {format_datetime(self.date)}",
            f"Message-ID: {self.message_id}",
        )
        return "".join(f"{header}\r\n" for header in headers).encode() + self.body


def compose(task: EmailSend, sender: Mailbox, now: datetime) -> Mail:
    """Make the mail of a task.

    Args:
        now: for the Date header, with a time zone.
    """
    recipients, refused = _recipients(task.to)
    return Mail(
        sender=sender,
        recipients=recipients,
        refused=refused,
        subject=text.line(task.subject),
        date=now,
        message_id=_message_id(task, sender.domain),
        body=_body(text.body(task.text), text.body(task.html or "")),
    )


def _recipients(entries: Iterable[str]) -> tuple[tuple[Recipient, ...], tuple[Refusal, ...]]:
    able: dict[tuple[str, str], Recipient] = {}
    refused: dict[str, Refusal] = {}
    for number, entry in enumerate(entries):
        try:
            mailbox = parse(entry)
        except NotAnAddress as error:
            refused.setdefault(entry, Refusal(number, text.line(entry[:SHOWN_CHARS]), str(error)))
        else:
            able.setdefault(mailbox.key, Recipient(number, mailbox))
    return tuple(able.values()), tuple(refused.values())


def _message_id(task: EmailSend, domain: str) -> str:
    """The same for every attempt at a mail, another for another mail (RFC 5322 §3.6.4).

    The content counts too: the Node stack uses an id like `<user>:reset-password` again for the next reset, and
    receivers drop a mail whose Message-ID they have seen.
    """
    identity = json.dumps([task.id, task.to, task.subject, task.text, task.html])
    return f"<{hashlib.sha256(identity.encode()).hexdigest()[:32]}@{domain}>"


def _body(plain: str, html: str) -> bytes:
    """text/plain, text/html, or both as alternatives with the better one last (RFC 2046 §5.1.4)."""
    html = html if html.strip() else ""
    if html and not plain.strip():
        plain = text.from_html(html)
    part = EmailMessage(policy=_POLICY)
    if plain or not html:
        part.set_content(plain, charset="utf-8")
    if html and plain:
        part.add_alternative(html, subtype="html", charset="utf-8")
    elif html:
        part.set_content(html, subtype="html", charset="utf-8")
    return part.as_bytes()


def _mailbox(mailbox: Mailbox) -> str:
    name = text.line(mailbox.name)
    if not name:
        return mailbox.path
    plain = name.isascii() and "=?" not in name and len(name) < COLUMNS
    return f'"{quote(name)}" <{mailbox.path}>' if plain else f"{_encoded(name)} <{mailbox.path}>"


def _unstructured(value: str, header: str) -> str:
    """As it is where that is safe and short, else in encoded words (RFC 2047)."""
    if value.isascii() and "=?" not in value and len(header) + 2 + len(value) <= COLUMNS:
        return value
    return _encoded(value, header)


def _encoded(value: str, header: str = "") -> str:
    return Header(value, "utf-8", maxlinelen=COLUMNS - 1, header_name=header or None).encode(linesep="\r\n")


def _folded(header: str, items: Iterable[str]) -> str:
    """Items joined with ", ", folded between them."""
    lines = [f"{header}:"]
    for number, item in enumerate(items):
        if number:
            lines[-1] += ","
        if number and len(lines[-1]) + 1 + len(item) > COLUMNS:
            lines.append("")
        lines[-1] += f" {item}"
    return "\r\n".join(lines)

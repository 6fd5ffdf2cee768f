"""A folder of caught messages: one .eml file each, the newest `keep` of them."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from email.policy import compat32
from pathlib import Path

from workers.dev import DevError

UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
LONGEST_ID = 60  # characters of the Message-ID in a file name


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """A stored message. Everything but `path` and `size` comes from the client."""

    path: Path
    sender: str
    recipients: tuple[str, ...]
    subject: str
    size: int
    """Of the message as received, in bytes."""


class MailFolder:
    """Stores messages in `path`; threads may share it. Only .eml files there are ever touched.

    Args:
        path: made if absent, for this user alone.
        keep: messages that stay; the oldest are removed.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._keep = keep
        self._files: deque[Path] = deque()
        self._stored = 0
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the folder if it is not there, and see what earlier runs left.

        Raises:
            DevError: it can't be made or written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self.path / ".writable"
            draft.touch()
            draft.unlink()
            self._files = deque(sorted(self.path.glob("*.eml")))  # names begin with the time
            self._drop_oldest()
        except OSError as error:
            raise DevError(f"can't store mails in {self.path}: {error.strerror}") from error

    def store(self, content: bytes, sender: str, recipients: Sequence[str]) -> CaughtMail:
        """Write one message; the file appears whole or not at all.

        The envelope, which the message itself need not tell, is put before it as X-MailFrom and X-RcptTo.

        Raises:
            OSError: the disk refused.
        """
        headers = BytesHeaderParser(policy=compat32).parsebytes(content)
        with self._lock:
            self._stored += 1
            now = datetime.now(UTC)
            name = f"{now:%Y%m%dT%H%M%S.%fZ}-{self._stored:06d}-{_safe_id(str(headers['Message-ID'] or ''))}.eml"
            path = self.path / name
            draft = self.path / f".{os.getpid()}.draft"
            draft.write_bytes(_envelope(sender, recipients) + content)
            draft.replace(path)
            self._files.append(path)
            self._drop_oldest()
        return CaughtMail(path, sender, tuple(recipients), _decoded(str(headers["Subject"] or "")), len(content))

    def _drop_oldest(self) -> None:
        while len(self._files) > self._keep:
            self._files.popleft().unlink(missing_ok=True)


def _safe_id(message_id: str) -> str:
    return UNSAFE.sub("_", message_id.strip("<> \r\n\t").split("@")[0])[:LONGEST_ID].strip("._") or "mail"


def _envelope(sender: str, recipients: Sequence[str]) -> bytes:
    folded = ",\r\n ".join(CONTROLS.sub("", one) for one in recipients)
    text = f"X-MailFrom: {CONTROLS.sub('', sender)}\r\nX-RcptTo: {folded}\r\n"
    return text.encode("utf-8", "surrogateescape")


def _decoded(subject: str) -> str:
    try:
        return str(make_header(decode_header(subject)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return subject

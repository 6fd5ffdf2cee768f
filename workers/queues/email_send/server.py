"""The mail server that smtp_url names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

_SHAPE = "expected smtp://host:port or smtps://host:port"


def wrong(text: str) -> PydanticCustomError:
    """An option's error; `text` says what is wrong and what to do, and quotes no secret."""
    return PydanticCustomError("email_options", "{text}", {"text": text})


@dataclass(frozen=True)
class SmtpServer:
    """A parsed smtp_url. `str()` leaves the credentials out."""

    scheme: Literal["smtp", "smtps"]
    host: str
    port: int
    username: str | None = None
    password: SecretStr | None = None

    @property
    def is_local(self) -> bool:
        """It runs on this machine."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def address(self) -> str:
        """host:port for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read the URL. What is wrong is said without quoting it, since it may hold a password."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str) or not value:
            raise wrong(f"{_SHAPE}, found {'nothing' if value in (None, '') else 'a ' + type(value).__name__}")
        try:
            url = urlsplit(value)
            port, host = url.port, url.hostname or ""
            username, password = (unquote(part, errors="strict") for part in (url.username or "", url.password or ""))
        except ValueError:
            raise wrong(f"{_SHAPE}; a special character in the credentials is written as %XX") from None
        if url.scheme not in ("smtp", "smtps"):
            raise wrong(f"{_SHAPE}; the scheme is another one or missing")
        if not host or not host.isprintable() or " " in host or port == 0:
            raise wrong(f"{_SHAPE}; the host is missing or malformed, or the port is 0")
        if url.path not in ("", "/") or url.query or url.fragment:
            raise wrong(f"{_SHAPE} and nothing behind; a special character in the credentials is written as %XX")
        scheme: Literal["smtp", "smtps"] = "smtps" if url.scheme == "smtps" else "smtp"
        default_port = 465 if scheme == "smtps" else 587
        return cls(scheme, host, port or default_port, username or None, SecretStr(password) if password else None)

"""What `task.options` of queue `email-send` may say. Every error names the field and the fix, and quotes no secret."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from workers.queues.email_send import address
from workers.queues.email_send.server import SmtpServer, wrong

Security: TypeAlias = Literal["implicit", "starttls", "opportunistic", "none"]
"""How a connection gets its TLS: from the start; by STARTTLS or not at all; by STARTTLS if offered; never."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def _absent_if_empty(value: Any) -> Any:
    """`${SITE_EMAIL_ALIAS:-}` leaves an empty text behind where the variable is not set."""
    return None if value == "" else value


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m)?", value.strip())
        if match is None:
            raise wrong("expected a duration like 10s, 500ms or 1m")
        return float(match[1]) * _SECONDS[match[2] or "s"]
    if isinstance(value, bool):
        raise wrong("expected a duration like 10s, 500ms or 1m")
    return value


OptionalText: TypeAlias = Annotated[str | None, BeforeValidator(_absent_if_empty)]
OptionalSecret: TypeAlias = Annotated[SecretStr | None, BeforeValidator(_absent_if_empty)]


class EmailOptions(BaseModel):
    """Where mails go and whom they are from. An empty text counts as not given."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True, validate_default=True
    )

    smtp_url: Annotated[
        SmtpServer,
        PlainValidator(SmtpServer.parse),
        PlainSerializer(str),
        WithJsonSchema({"type": "string", "examples": ["smtp://mail.example.com:587", "smtps://mail.example.com:465"]}),
    ]
    """smtp://host:port or smtps://host:port; user:password@ before the host is understood, percent-encoded. The port
    defaults to 587, with smtps to 465 (RFC 8314)."""

    tls: Literal["auto", "implicit", "starttls", "none"] = "auto"
    """implicit: TLS from the first byte. starttls: upgraded before anything else, or nothing is sent (RFC 3207).
    none: never upgraded, credentials go in the clear. auto: implicit with smtps or port 465; starttls with port 587
    or a username; else STARTTLS where the server offers it. Defaults to auto."""

    username: OptionalText = None
    """Name for SMTP AUTH (RFC 4954). Defaults to none: no authentication."""

    password: OptionalSecret = None
    """Password for SMTP AUTH."""

    from_name: OptionalText = None
    """Display name of the sender. Defaults to none."""

    from_alias: OptionalText = None
    """Address of the sender, in From and as the envelope's sender. Defaults to the username."""

    timeout: Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=600, allow_inf_nan=False)] = 10.0
    """Seconds (or `10s`, `500ms`) for connecting and for each reply; the reply to the message itself may take twice
    as long. A job's own time-out comes first where it is shorter. Defaults to 10s."""

    verify: bool = True
    """Check the server's certificate and name. Defaults to true."""

    ca_file: Annotated[Path | None, BeforeValidator(_absent_if_empty)] = None
    """PEM file of the authorities to trust instead of the system's. Defaults to none."""

    ehlo_name: OptionalText = None
    """How we greet the server. Defaults to the host's name if it has a dot, else [127.0.0.1]; both without DNS."""

    max_recipients: Annotated[int, Field(ge=1, le=10_000)] = 100
    """A mail to more fails at once; 100 is what every server must take (RFC 5321 §4.5.3.1.8). Defaults to 100."""

    @field_validator("tls")
    @classmethod
    def _tls_fits_the_url(cls, tls: str, info: ValidationInfo) -> str:
        server = info.data.get("smtp_url")
        if server is not None and server.scheme == "smtps" and tls in ("starttls", "none"):
            raise wrong(f"smtps:// is TLS from the first byte; for tls: {tls} write smtp:// in smtp_url")
        return tls

    @field_validator("username")
    @classmethod
    def _one_username(cls, username: str | None, info: ValidationInfo) -> str | None:
        server = info.data.get("smtp_url")
        if username is not None and server is not None and (server.username or server.password):
            raise wrong("smtp_url has credentials too; leave them in one of the two places")
        return _no_controls(username)

    @field_validator("password")
    @classmethod
    def _password_fits_the_username(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        server = info.data.get("smtp_url")
        if server is None or "username" not in info.data:
            return password
        given = password or server.password
        if given is not None and not _username(info):
            raise wrong("there is a password but no username; set username")
        if given is None and _username(info):
            raise wrong("there is a username but no password; set password")
        _no_controls(given.get_secret_value() if given else None)
        return password

    @field_validator("from_alias")
    @classmethod
    def _sender_is_an_address(cls, alias: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("smtp_url") is None or "username" not in info.data:
            return alias
        given = alias or _username(info)
        if given is None:
            raise wrong("there is no sender; set from_alias to the address that mails come from")
        try:
            sender = address.parse(given)
        except address.NotAnAddress as error:
            what = (
                "set from_alias, since the username is" if alias is None else "expected an address like hi@example.com;"
            )
            raise wrong(f"{what} {error}") from None
        if sender.name or sender.needs_smtputf8:
            raise wrong("expected an address alone, its part before the @ in ASCII; the name goes into from_name")
        if sender.domain.lower() == "localhost" and not info.data["smtp_url"].is_local:
            raise wrong(f"{given} means nothing to other hosts; set it to the address that mails come from")
        return alias

    @field_validator("ehlo_name")
    @classmethod
    def _ehlo_name_is_a_host(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9.:\[\]_-]{1,255}", name):
            raise wrong("expected a host name or an address literal like [192.0.2.1]")
        return name

    @property
    def security(self) -> Security:
        """What `tls` comes to for this URL and these credentials."""
        match self.tls:
            case "implicit" | "starttls" | "none":
                return self.tls
        if self.smtp_url.scheme == "smtps" or self.smtp_url.port == 465:
            return "implicit"
        return "starttls" if self.smtp_url.port == 587 or self.login else "opportunistic"

    @property
    def login(self) -> tuple[str, SecretStr] | None:
        """Username and password, wherever they were given."""
        username = self.username or self.smtp_url.username
        password = self.password or self.smtp_url.password
        return (username, password) if username and password else None

    @property
    def sender(self) -> address.Mailbox:
        """The Node stack's rule: `"<from_name>" <from_alias>`, where the alias falls back to the username."""
        given = address.parse(self.from_alias or self.username or self.smtp_url.username or "")
        return address.Mailbox(given.local, given.domain, self.from_name or "")

    @property
    def greeting_name(self) -> str:
        """The argument of EHLO (RFC 5321 §4.1.4: an address literal where there is no proper name)."""
        host = self.ehlo_name or socket.gethostname()
        return host if self.ehlo_name or ("." in host and host.isascii()) else "[127.0.0.1]"


def _username(info: ValidationInfo) -> str | None:
    username: str | None = info.data["username"] or info.data["smtp_url"].username
    return username


def _no_controls(text: str | None) -> str | None:
    if text is not None and any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise wrong("it contains a control character, perhaps a line break at its end")
    return text

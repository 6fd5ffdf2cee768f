"""What a failed step of an SMTP conversation means for the mail: worth another attempt, or not. Pure.

A 4xx reply says "not now", a 5xx "never" (RFC 5321 §4.2.1), but only about the mail: what goes wrong before MAIL FROM
(connecting, TLS, authentication) says nothing about it and may be mended, whatever the code. Messages name server,
step and option, and never a credential.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Literal, TypeAlias

import aiosmtplib

from workers.contract import JobError, PermanentError, TransientError
from workers.queues.email_send import text
from workers.queues.email_send.message import Refusal

Step: TypeAlias = Literal["connect", "EHLO", "STARTTLS", "AUTH", "MAIL FROM", "RCPT TO", "DATA", "message"]

#: Seconds before a configuration fault is tried again: long enough not to lock an account, short enough for a fix.
CONFIGURATION_RETRY_S = 60.0
#: Characters of a server's reply that are kept.
REPLY_CHARS = 200
#: Refused recipients that one error lists.
MAX_LISTED = 5

#: Steps whose failure says nothing about the mail.
BEFORE_THE_MAIL = frozenset({"connect", "EHLO", "STARTTLS", "AUTH"})
# RFC 4954 §6: authentication required, too weak, failed, or only with encryption. About us, not about the mail.
_AUTHENTICATION = frozenset({530, 534, 535, 538})
# RFC 5321 §4.5.3.1.10: as a reply to RCPT TO it means too many recipients and is to be treated as 452.
_TOO_MANY_RECIPIENTS = 552


def failure(error: Exception, step: Step, server: str) -> JobError:
    """The job's failure for an exception of aiosmtplib, asyncio or the operating system.

    Args:
        server: host:port.
    """
    at = f"SMTP server {server}, {step}"
    if tls := _tls_error(error):
        return _tls_failure(tls, at)
    match error:
        case aiosmtplib.SMTPResponseException(code=code, message=message):
            return _refused(code, message, step, at)
        case TimeoutError():
            return TransientError(f"{at}: no answer in time{_afterwards(step)}")
        case aiosmtplib.SMTPConnectError():
            return TransientError(f"{at}: {_cause(error)}")
        case ConnectionError():
            return TransientError(f"{at}: the connection was lost{_afterwards(step)}")
        case aiosmtplib.SMTPException() if step == "AUTH":
            return _configuration(f"{at}: no method of authentication that both sides know; check options.username")
        case _:
            return TransientError(f"{at}: {_cause(error)}")


def not_offered(extension: Literal["STARTTLS", "AUTH"], server: str) -> JobError:
    """The options need an extension that the server doesn't offer."""
    fix = {
        "STARTTLS": "set options.tls to implicit or none, or check the port in options.smtp_url",
        "AUTH": "remove options.username and password, or check options.tls: many servers offer it under TLS alone",
    }
    return _configuration(f"SMTP server {server}: it does not offer {extension}; {fix[extension]}")


def too_large(size: int, limit: int, server: str) -> JobError:
    """The message exceeds what the server announced (RFC 1870)."""
    return PermanentError(f"the message has {size:,} bytes, SMTP server {server} takes {limit:,} at most (SIZE)")


def too_many(count: int, limit: int) -> JobError:
    """More recipients than options.max_recipients."""
    return PermanentError(f"data.to: {count:,} recipients, more than the {limit:,} allowed (options.max_recipients)")


def no_template(name: str) -> JobError:
    """The mail is to be made from a template. Sent without it, it would be another mail, or an empty one."""
    return PermanentError(f"data.template: {text.line(name)[:REPLY_CHARS]!r}: templates are not rendered here yet")


def no_address(refused: Sequence[Refusal]) -> JobError:
    """No entry of `to` is an address."""
    return PermanentError(_listed(refused))


def nobody_left(refused: Sequence[Refusal], server: str) -> JobError:
    """Every recipient was refused. One who may be accepted later makes it worth another attempt."""
    message = f"SMTP server {server}, no recipient left: {_listed(refused)}"
    return TransientError(message) if any(map(_may_change, refused)) else PermanentError(message)


def reply(code: int, message: str) -> str:
    """A server's reply on one bounded line."""
    said = text.line(message)
    return f"{code} {said[:REPLY_CHARS]}".rstrip()


def _listed(refused: Sequence[Refusal]) -> str:
    listed = [f"data.to.{each.entry}: {each.recipient}: {each.response}" for each in refused[:MAX_LISTED]]
    if len(refused) > MAX_LISTED:
        listed.append(f"and {len(refused) - MAX_LISTED} more")
    return "; ".join(listed)


def _may_change(refusal: Refusal) -> bool:
    return refusal.code is not None and (refusal.code // 100 == 4 or refusal.code == _TOO_MANY_RECIPIENTS)


def _refused(code: int, message: str, step: Step, at: str) -> JobError:
    if step == "AUTH":
        # Without the server's words: one that repeats what it was sent would repeat the password.
        return _configuration(f"{at}: refused with {code}; check options.username and options.password")
    if code in _AUTHENTICATION:
        return _configuration(f"{at}: {reply(code, message)}; set options.username and options.password")
    if code // 100 == 5 and step not in BEFORE_THE_MAIL:
        return PermanentError(f"{at}: {reply(code, message)}")
    return TransientError(f"{at}: {reply(code, message)}")


def _tls_failure(error: ssl.SSLError, at: str) -> JobError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _configuration(
            f"{at}: its certificate is not trusted ({text.line(error.verify_message)});"
            " check the host in options.smtp_url, set options.ca_file to its authority, or options.verify to false"
        )
    why = text.line(error.reason or "handshake failed").lower().replace("_", " ")
    return _configuration(f"{at}: TLS failed ({why}); check options.tls and the port in options.smtp_url")


def _configuration(message: str) -> TransientError:
    return TransientError(message, retry_after_s=CONFIGURATION_RETRY_S)


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    return error


def _cause(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    # asyncio's own text would be "Connect call failed ('192.0.2.1', 587)".
    said = os.strerror(number) if number and number > 0 else str(cause) or type(cause).__name__
    return text.line(said)[:REPLY_CHARS]


def _afterwards(step: Step) -> str:
    if step != "message":
        return ""
    return "; the mail may have been delivered, and the next attempt carries the same Message-ID"

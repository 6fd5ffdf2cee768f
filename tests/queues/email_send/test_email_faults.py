"""The table of failures: which are worth another attempt, and what they say."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import get_args

import aiosmtplib
import pytest

from workers.contract import JobError, PermanentError, TransientError
from workers.queues.email_send import faults
from workers.queues.email_send.message import Refusal

MAIL_STEPS: list[faults.Step] = ["MAIL FROM", "RCPT TO", "DATA", "message"]


def connect_error(cause: OSError) -> aiosmtplib.SMTPConnectError:
    error = aiosmtplib.SMTPConnectError("Error connecting")
    error.__cause__ = cause
    return error


def failed(error: Exception, step: faults.Step) -> JobError:
    return faults.failure(error, step, "mail.test:587")


@pytest.mark.parametrize("step", MAIL_STEPS)
@pytest.mark.parametrize(("code", "kind"), [(421, TransientError), (450, TransientError), (499, TransientError)])
def test_4xx_may_work_later(step: faults.Step, code: int, kind: type[JobError]) -> None:
    assert type(failed(aiosmtplib.SMTPResponseException(code, "not now"), step)) is kind


@pytest.mark.parametrize("step", MAIL_STEPS)
@pytest.mark.parametrize("code", [500, 550, 552, 554, 571])
def test_5xx_about_the_mail_is_final(step: faults.Step, code: int) -> None:
    assert type(failed(aiosmtplib.SMTPResponseException(code, "never"), step)) is PermanentError


@pytest.mark.parametrize("step", sorted(faults.BEFORE_THE_MAIL))
@pytest.mark.parametrize("code", [421, 450, 500, 535, 554])
def test_replies_before_the_mail_say_nothing_about_it(step: faults.Step, code: int) -> None:
    assert type(failed(aiosmtplib.SMTPResponseException(code, "no"), step)) is TransientError


@pytest.mark.parametrize("step", get_args(faults.Step))
@pytest.mark.parametrize("code", [530, 534, 535, 538])
def test_authentication_faults_wait_for_the_operator(step: faults.Step, code: int) -> None:
    failure = failed(aiosmtplib.SMTPResponseException(code, "no"), step)
    assert isinstance(failure, TransientError)
    if step in MAIL_STEPS:
        assert failure.retry_after_s == faults.CONFIGURATION_RETRY_S
        assert "set options.username" in str(failure)


@pytest.mark.parametrize("code", [-1, 0, 250, 354, 700])
def test_nonsense_replies_may_work_later(code: int) -> None:
    assert type(failed(aiosmtplib.SMTPResponseException(code, "?"), "MAIL FROM")) is TransientError


@pytest.mark.parametrize(
    ("error", "step", "text"),
    [
        (TimeoutError(), "RCPT TO", "SMTP server mail.test:587, RCPT TO: no answer in time"),
        (aiosmtplib.SMTPServerDisconnected("x"), "DATA", "SMTP server mail.test:587, DATA: the connection was lost"),
        (ConnectionResetError(), "EHLO", "SMTP server mail.test:587, EHLO: the connection was lost"),
        (
            connect_error(ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 587)")),
            "connect",
            "SMTP server mail.test:587, connect: Connection refused",
        ),
        (
            connect_error(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
            "connect",
            "SMTP server mail.test:587, connect: [Errno -2] Name or service not known",
        ),
        (
            aiosmtplib.SMTPException("No suitable authentication method found."),
            "AUTH",
            "SMTP server mail.test:587, AUTH: no method of authentication that both sides know; check options.username",
        ),
        (aiosmtplib.SMTPException("odd\nthing"), "EHLO", "SMTP server mail.test:587, EHLO: odd thing"),
        (OSError(), "connect", "SMTP server mail.test:587, connect: OSError"),
    ],
)
def test_lost_and_silent_servers_may_work_later(error: Exception, step: faults.Step, text: str) -> None:
    failure = failed(error, step)
    assert isinstance(failure, TransientError)
    assert str(failure) == text


def test_certificate_and_handshake_name_their_options() -> None:
    expired = ssl.SSLCertVerificationError(1, "certificate verify failed")
    expired.verify_message = "certificate has expired"
    for error in (expired, connect_error(expired)):
        failure = failed(error, "connect")
        assert isinstance(failure, TransientError)
        assert "its certificate is not trusted (certificate has expired)" in str(failure)
        assert "options.ca_file" in str(failure)
        assert failure.retry_after_s == faults.CONFIGURATION_RETRY_S
    handshake = ssl.SSLError(1, "x")
    handshake.reason = "WRONG_VERSION_NUMBER"
    assert "TLS failed (wrong version number); check options.tls" in str(failed(handshake, "STARTTLS"))


def refusal(entry: int, code: int | None, response: str = "no") -> Refusal:
    return Refusal(entry, f"r{entry}@x.org", response, code)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ([550], PermanentError),
        ([550, 553, None], PermanentError),
        ([450], TransientError),
        ([550, 450], TransientError),
        ([None, 452], TransientError),
        ([552], TransientError),
    ],
)
def test_one_who_may_come_round_is_enough_for_another_attempt(codes: list[int | None], kind: type[JobError]) -> None:
    refused = [refusal(entry, code) for entry, code in enumerate(codes)]
    assert type(faults.nobody_left(refused, "mail.test:587")) is kind


def test_long_lists_of_refusals_are_cut() -> None:
    failure = faults.nobody_left([refusal(entry, 550) for entry in range(100)], "mail.test:587")
    assert str(failure).endswith("data.to.4: r4@x.org: no; and 95 more")
    assert str(faults.no_address([refusal(3, None)])) == "data.to.3: r3@x.org: no"


def test_replies_are_one_bounded_line() -> None:
    assert faults.reply(550, "5.1.1 no\r\nsuch user\x00") == "550 5.1.1 no such user"
    assert len(faults.reply(550, "x" * 5000)) == 204
    assert faults.reply(250, "") == "250"

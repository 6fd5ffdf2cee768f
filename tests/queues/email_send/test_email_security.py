"""TLS modes and authentication, and that no credential shows."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil
import pytest

from tests.conftest import wait_until
from tests.queues.email_send.conftest import MakeScripted, MakeServer, OpenModule
from tests.queues.email_send.mail_server import CA_FILE, MailServer, Talk, server_tls
from workers.contract import Services, TransientError
from workers.queues.email_send import MODULE

LOGIN: dict[str, Any] = {"username": "hi@vrooli.test", "password": "s3cret-pa55"}


def account() -> MailServer:
    return MailServer(logins={"hi@vrooli.test": "s3cret-pa55"})


async def test_implicit_tls_with_a_trusted_certificate_delivers(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(tls=server_tls())
    send = await open_module(server, smtp_url=f"smtps://localhost:{server.port}", ca_file=str(CA_FILE))

    await send()
    await send()

    assert len(server.received) == 2
    assert len(server.protocols) == 1


async def test_starttls_delivers_over_the_upgraded_connection(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(tls_context=server_tls(), require_starttls=True)
    send = await open_module(server, smtp_url=f"smtp://localhost:{server.port}", tls="starttls", ca_file=str(CA_FILE))

    await send()

    assert len(server.received) == 1
    # Greeted again after the upgrade (RFC 3207 §4.2).
    assert sum(command.startswith("EHLO") for command in server.commands) == 2


async def test_what_the_server_offers_is_asked_again_under_tls(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    """aiosmtpd offers AUTH under TLS alone."""
    server = await make_server(account(), tls_context=server_tls(), auth_require_tls=True)
    send = await open_module(server, smtp_url=f"smtp://localhost:{server.port}", ca_file=str(CA_FILE), **LOGIN)

    await send()

    assert server.auth_data[0].login == b"hi@vrooli.test"
    assert any(each.startswith("SIZE=") for each in server.received[0].parameters)


async def test_connection_is_gone_at_once_though_the_tls_peer_is_silent(
    make_scripted: MakeScripted, open_module: OpenModule
) -> None:
    async def script(talk: Talk) -> None:
        await talk.say("220 mail.test")
        await talk.hear()
        await talk.say("250 mail.test")
        await talk.hear()
        talk.stop_listening()
        await asyncio.Event().wait()

    server = await make_scripted(script, tls=server_tls())
    send = await open_module(server, tls="implicit", verify=False, timeout=0.3)

    with pytest.raises(TransientError, match="MAIL FROM: no answer in time"):
        await send()

    await wait_until(lambda: connections_to(server.port) == 0, timeout_s=5)


def connections_to(port: int) -> int:
    found = psutil.Process().net_connections("tcp4")
    return sum(bool(each.raddr) and each.raddr.port == port for each in found)


async def test_starttls_is_used_where_offered(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(tls_context=server_tls(), require_starttls=True)
    send = await open_module(server, smtp_url=f"smtp://localhost:{server.port}", tls="auto", ca_file=str(CA_FILE))
    await send()
    assert len(server.received) == 1


async def test_none_never_upgrades(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(tls_context=server_tls())
    send = await open_module(server, tls="none")
    await send()
    assert sum(command.startswith("EHLO") for command in server.commands) == 1
    assert len(server.received) == 1


async def test_server_without_starttls_gets_nothing(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server, tls="starttls")

    with pytest.raises(TransientError, match=r"does not offer STARTTLS; set options\.tls") as raised:
        await send()

    assert raised.value.retry_after_s == 60
    assert "MAIL" not in server.commands


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_untrusted_certificate_is_named_with_the_option(
    make_server: MakeServer, open_module: OpenModule, mode: str
) -> None:
    server = await make_server(**{"implicit": {"tls": server_tls()}, "starttls": {"tls_context": server_tls()}}[mode])
    send = await open_module(server, smtp_url=f"smtp://localhost:{server.port}", tls=mode)

    with pytest.raises(TransientError, match=r"certificate is not trusted .*options\.ca_file") as raised:
        await send()

    assert raised.value.retry_after_s == 60
    assert server.received == []


async def test_certificate_for_another_name_is_refused(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(tls=server_tls())
    send = await open_module(server, tls="implicit", ca_file=str(CA_FILE))

    # The certificate is for localhost.
    with pytest.raises(TransientError, match=r"not trusted .*127\.0\.0\.1.* check the host in options\.smtp_url"):
        await send()

    assert server.received == []


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_verify_false_takes_any_certificate(make_server: MakeServer, open_module: OpenModule, mode: str) -> None:
    server = await make_server(**{"implicit": {"tls": server_tls()}, "starttls": {"tls_context": server_tls()}}[mode])
    send = await open_module(server, tls=mode, verify=False)
    await send()
    assert len(server.received) == 1


async def test_tls_to_a_plain_port_names_the_option(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server()
    send = await open_module(server, tls="implicit", verify=False)

    with pytest.raises(TransientError, match=r"TLS failed .*options\.tls"):
        await send()


async def test_right_password_delivers(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(account(), auth_required=False)
    send = await open_module(server, tls="none", from_alias=None, **LOGIN)

    await send()

    assert server.auth_data[0].login == b"hi@vrooli.test"
    assert server.received[0].sender == "hi@vrooli.test"


async def test_credentials_in_the_url_deliver(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(MailServer(logins={"hi@vrooli.test": "p@ss/w:rd"}))
    url = f"smtp://hi%40vrooli.test:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}"
    send = await open_module(server, smtp_url=url, tls="none", from_alias=None)
    await send()
    assert len(server.received) == 1


async def test_wrong_password_is_a_configuration_fault_that_shows_no_secret(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(account())
    send = await open_module(server, tls="none", **{**LOGIN, "password": "wr0ng-pa55"})

    with pytest.raises(TransientError, match=r"AUTH: refused with 535; check options\.username") as raised:
        await send()

    assert raised.value.retry_after_s == 60
    assert "wr0ng" not in str(raised.value)
    assert "MAIL" not in server.commands
    # An unauthenticated connection is never taken for the next mail.
    with pytest.raises(TransientError, match="AUTH"):
        await send()
    assert len(server.protocols) == 2


async def test_server_that_repeats_the_password_gives_it_to_nobody(
    make_scripted: MakeScripted, open_module: OpenModule
) -> None:
    async def script(talk: Talk) -> None:
        await talk.say("220 mail.test")
        await talk.hear()
        await talk.say("250-mail.test", "250 AUTH PLAIN")
        sent = await talk.hear()
        await talk.say(f"501 5.5.2 can't read {sent} s3cret-pa55")
        await talk.hang()

    server = await make_scripted(script)
    send = await open_module(server, tls="none", **LOGIN)

    with pytest.raises(TransientError, match="AUTH: refused with 501") as raised:
        await send()

    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_server_that_wants_authentication_names_the_options(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(MailServer(script={"MAIL": ["530 5.7.0 Authentication required"]}))
    send = await open_module(server)

    with pytest.raises(TransientError, match=r"530 .*set options\.username and options\.password"):
        await send()


async def test_server_without_auth_names_the_options(make_server: MakeServer, open_module: OpenModule) -> None:
    server = await make_server(MailServer(hidden={"AUTH"}))
    send = await open_module(server, tls="none", **LOGIN)

    with pytest.raises(TransientError, match=r"does not offer AUTH; remove options\.username"):
        await send()


async def test_credentials_never_go_over_an_unencrypted_connection_by_default(
    make_server: MakeServer, open_module: OpenModule
) -> None:
    server = await make_server(account())
    send = await open_module(server, **LOGIN)

    with pytest.raises(TransientError, match="does not offer STARTTLS"):
        await send()

    assert server.auth_data == []


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("not a certificate", "no PEM certificate")])
async def test_unusable_ca_file_is_named_when_the_module_opens(tmp_path: Any, content: str | None, why: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    values = {"smtp_url": "smtps://mail.test:465", "from_alias": "hi@vrooli.test", "ca_file": str(path)}
    options = MODULE.options.model_validate(values)

    with pytest.raises(ValueError, match=rf"options\.ca_file: .*ca\.pem: .*{why}"):
        async with MODULE.open(Services(queue="email-send", slots=1), options):
            pass

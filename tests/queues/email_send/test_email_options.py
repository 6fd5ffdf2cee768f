"""Options: what is accepted, what it comes to, and what each error says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from workers.queues.email_send.options import EmailOptions

GOOD: dict[str, Any] = {"smtp_url": "smtp://mail.test:587", "from_alias": "hi@vrooli.test"}


def options(**more: Any) -> EmailOptions:
    return EmailOptions.model_validate({**GOOD, **more})


def problems(**more: Any) -> dict[str, str]:
    """What is said about each field."""
    with pytest.raises(ValidationError) as error:
        options(**more)
    return {str(each["loc"][0]): each["msg"] for each in error.value.errors()}


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("smtp://mail.test", "mail.test", 587),
        ("smtps://mail.test", "mail.test", 465),
        ("smtp://MAIL.test:2525/", "mail.test", 2525),
        ("smtp://[::1]:25", "::1", 25),
        ("smtp://user:p%40ss@mail.test:25", "mail.test", 25),
    ],
)
def test_server_is_read_from_the_url(url: str, host: str, port: int) -> None:
    server = options(smtp_url=url).smtp_url
    assert (server.host, server.port) == (host, port)


@pytest.mark.parametrize(
    ("more", "security"),
    [
        ({"smtp_url": "smtps://mail.test"}, "implicit"),
        ({"smtp_url": "smtps://mail.test:2525"}, "implicit"),
        ({"smtp_url": "smtp://mail.test:465"}, "implicit"),
        ({"smtp_url": "smtp://mail.test:587"}, "starttls"),
        ({"smtp_url": "smtp://mail.test:25"}, "opportunistic"),
        ({"smtp_url": "smtp://mail.test:25", "username": "u", "password": "p"}, "starttls"),
        ({"smtp_url": "smtp://u:p@mail.test:25"}, "starttls"),
        ({"smtp_url": "smtp://mail.test:25", "tls": "implicit"}, "implicit"),
        ({"smtp_url": "smtp://mail.test:587", "tls": "none"}, "none"),
        ({"smtp_url": "smtp://mail.test:465", "tls": "starttls"}, "starttls"),
    ],
)
def test_tls_mode_follows_url_port_and_credentials(more: dict[str, Any], security: str) -> None:
    assert options(**more).security == security


@pytest.mark.parametrize(
    ("more", "path", "name"),
    [
        ({"from_name": "Vrooli"}, "hi@vrooli.test", "Vrooli"),
        ({"from_alias": "", "username": "me@gmail.test", "password": "p"}, "me@gmail.test", ""),
        ({"from_alias": None, "smtp_url": "smtp://me%40gmail.test:p@mail.test"}, "me@gmail.test", ""),
        ({"from_alias": "hi@münchen.test", "username": "AKIA1", "password": "p"}, "hi@xn--mnchen-3ya.test", ""),
    ],
)
def test_sender_is_the_alias_or_the_username(more: dict[str, Any], path: str, name: str) -> None:
    sender = options(**more).sender
    assert (sender.path, sender.name) == (path, name)


def test_unset_variables_count_as_not_given() -> None:
    empty = options(username="", password="", from_name="", ca_file="", ehlo_name="")
    assert (empty.username, empty.password, empty.from_name, empty.ca_file, empty.login) == (None,) * 5


@pytest.mark.parametrize(
    ("written", "seconds"), [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), (7, 7.0), ("7", 7.0), (2.5, 2.5)]
)
def test_timeout_is_written_like_other_durations(written: Any, seconds: float) -> None:
    assert options(timeout=written).timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("more", "field", "message"),
    [
        ({"smtp_url": ""}, "smtp_url", "expected smtp://host:port or smtps://host:port, found nothing"),
        ({"smtp_url": 25}, "smtp_url", "expected smtp://host:port or smtps://host:port, found a int"),
        ({"smtp_url": "http://mail.test"}, "smtp_url", "the scheme is another one or missing"),
        ({"smtp_url": "mail.test:25"}, "smtp_url", "the scheme is another one or missing"),
        ({"smtp_url": "smtp://:25"}, "smtp_url", "the host is missing"),
        ({"smtp_url": "smtp://mail.test:0"}, "smtp_url", "the port is 0"),
        ({"smtp_url": "smtp://mail.test:70000"}, "smtp_url", "is written as %XX"),
        ({"smtp_url": "smtp://u:pa/ss@mail.test"}, "smtp_url", "is written as %XX"),
        ({"smtp_url": "smtp://u:p%FF@mail.test"}, "smtp_url", "is written as %XX"),
        ({"smtp_url": "smtp://mail.test:25/path"}, "smtp_url", "and nothing behind"),
        ({"smtp_url": "smtp://mail.test:25?tls=1"}, "smtp_url", "and nothing behind"),
        ({"smtp_url": "smtps://mail.test", "tls": "none"}, "tls", "for tls: none write smtp:// in smtp_url"),
        ({"tls": "ssl"}, "tls", "Input should be 'auto', 'implicit', 'starttls' or 'none'"),
        ({"smtp_url": "smtp://u:p@mail.test", "username": "x"}, "username", "smtp_url has credentials too"),
        ({"username": "u"}, "password", "there is a username but no password; set password"),
        ({"password": "p"}, "password", "there is a password but no username; set username"),
        ({"username": "u", "password": "p\n"}, "password", "a control character, perhaps a line break at its end"),
        ({"from_alias": None}, "from_alias", "there is no sender; set from_alias"),
        (
            {"from_alias": None, "username": "AKIA1", "password": "p"},
            "from_alias",
            "set from_alias, since the username is not an e-mail address: it has no @",
        ),
        ({"from_alias": "Vrooli"}, "from_alias", "expected an address like hi@example.com; not an e-mail address"),
        ({"from_alias": "Vrooli <hi@x.org>"}, "from_alias", "the name goes into from_name"),
        ({"from_alias": "jürgen@x.org"}, "from_alias", "its part before the @ in ASCII"),
        ({"timeout": "soon"}, "timeout", "expected a duration like 10s, 500ms or 1m"),
        ({"timeout": True}, "timeout", "expected a duration like 10s, 500ms or 1m"),
        ({"timeout": 0}, "timeout", "greater than 0"),
        ({"timeout": float("nan")}, "timeout", "greater than 0"),
        ({"timeout": "11m"}, "timeout", "less than or equal to 600"),
        ({"ehlo_name": "a b"}, "ehlo_name", "expected a host name or an address literal"),
        ({"max_recipients": 0}, "max_recipients", "greater than or equal to 1"),
        ({"smtp_uri": "smtp://mail.test"}, "smtp_uri", "Extra inputs are not permitted"),
    ],
)
def test_error_names_field_and_fix(more: dict[str, Any], field: str, message: str) -> None:
    said = problems(**more)
    assert list(said) == [field]
    assert message in said[field]


def test_wrong_url_is_the_only_complaint() -> None:
    assert list(problems(smtp_url="nonsense", username="u", password="p", from_alias=None)) == ["smtp_url"]


def test_credentials_show_in_no_text() -> None:
    good = options(smtp_url="smtp://me%40x.org:s3cret@mail.test:25")
    assert "s3cret" not in repr(good) + str(good) + good.model_dump_json() + str(good.model_dump())
    for more in ({"smtp_url": "smtp://u:s3cret@mail.test/x"}, {"username": "u\n", "password": "s3cret"}):
        with pytest.raises(ValidationError) as error:
            options(**more)
        assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "host", "greeting"),
    [
        (None, "worker-7", "[127.0.0.1]"),
        (None, "worker-7.vrooli.test", "worker-7.vrooli.test"),
        (None, "wörker.test", "[127.0.0.1]"),
        ("mail.vrooli.test", "worker-7", "mail.vrooli.test"),
    ],
)
def test_greeting_needs_no_dns(monkeypatch: pytest.MonkeyPatch, given: str | None, host: str, greeting: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert options(ehlo_name=given).greeting_name == greeting


def test_schema_for_editors_can_be_made() -> None:
    schema = EmailOptions.model_json_schema()
    assert schema["properties"]["smtp_url"]["type"] == "string"
    assert "tls" in schema["properties"]

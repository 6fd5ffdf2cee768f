"""Where Redis is: shown without what must not be shown, and read by the client exactly as written."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.endpoint import BLOCK_SLACK_S, MAX_BLOCK_S, Endpoint, EndpointError
from workers.broker.keys import client_name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://user:secret@redis.example.com:6380/2", "rediss://redis.example.com:6380/2"),
        ("redis://:secret@10.0.0.1:6379", "redis://10.0.0.1:6379"),
        ("redis://user@host:1", "redis://host:1"),
        ("redis://:p%40ss%2Fw%3Ard@host:6379/0", "redis://host:6379/0"),
        ("redis://:se@cret@host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://[2001:db8::1]", "redis://[2001:db8::1]"),
        ("redis://host:6379/0?password=secret", "redis://host:6379/0"),
        ("unix:///tmp/redis.sock", "unix:///tmp/redis.sock"),
        ("unix://user:secret@/tmp/redis.sock?db=1", "unix:///tmp/redis.sock"),
        ("unix:///tmp/redis.sock?password=s@cret", "unix:///tmp/redis.sock"),
        # unencoded / ? # in a password that looks like a port up to there
        ("redis://user:12/secret@host:6379/0", "redis://…"),
        ("redis://user:12?secret@host:6379/0", "redis://…"),
        ("redis://user:12#secret@host:6379/0", "redis://…"),
        ("unix://user:12/secret@/tmp/redis.sock", "unix://…"),
    ],
)
def test_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert Endpoint(url=url).display == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret/word@host:6379",
        "redis://:secret#word@host:6379",
        "redis://:secret[word@host:6379",
        "redis://host:secret",
        "redis://host:99999",
        "http://secret@host",
        "secret",
        "",
    ],
)
def test_url_that_can_not_be_read_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(EndpointError, match=r"redis\.url can't be read") as refused:
        Endpoint(url=url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(lambda text: f"«{text}»")
hosts = st.sampled_from(["host", "10.0.0.1", "[::1]", "[fe80::1%25eth0]", "a.b.example"])
schemes = st.sampled_from(["redis", "rediss"])


@given(schemes, secrets, secrets, hosts, st.integers(1, 65535), st.integers(0, 15))
def test_encoded_credentials_are_used_and_never_shown(
    scheme: str, user: str, password: str, host: str, port: int, db: int
) -> None:
    endpoint = Endpoint(url=f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{db}")
    assert endpoint.display == f"{scheme}://{host}:{port}/{db}"
    used = endpoint.commands().connection_pool.connection_kwargs
    assert (used["username"], used["password"]) == (user, password)
    assert (used["port"], used["db"]) == (port, db)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text("ab12/?#@:[]% \t\n", max_size=12))
def test_raw_credentials_are_never_shown_whatever_is_in_them(user: str, tail: str) -> None:
    """A password with characters that should have been encoded: refused, or shown without any of it."""
    try:
        shown = Endpoint(url=f"redis://{user}:SECRET{tail}SECRET@host:6379/0").display
    except EndpointError as error:
        shown = str(error)
    assert "SECRET" not in shown


def test_clients_wait_longer_than_they_block_and_never_send_twice() -> None:
    endpoint = Endpoint(url="redis://host:1/3", prefix="pre", connect_timeout_s=2, command_timeout_s=7)
    commands = endpoint.commands().connection_pool.connection_kwargs
    blocking = endpoint.blocking("q", "w").connection_pool.connection_kwargs
    assert commands["socket_timeout"] == 7
    assert blocking["socket_timeout"] == MAX_BLOCK_S + BLOCK_SLACK_S
    for used in (commands, blocking):
        assert used["socket_connect_timeout"] == 2
        assert used["protocol"] == 2
        assert used["retry"].get_retries() == 0
    assert commands["client_name"] is None
    assert blocking["client_name"] == client_name("pre", "q", "w")

"""Where Redis is: which settings go together, and what the clients are made of."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from workers.broker.cluster_slot import SlotLocator
from workers.broker.connection import TcpConnection, UnixConnection
from workers.broker.endpoint import BLOCK_SLACK_S, MAX_BLOCK_S, Endpoint, EndpointError, Tls
from workers.broker.keys import client_name
from workers.broker.pool import Pool
from workers.broker.sentinel import SentinelLocator

CLUSTER, SENTINEL = "redis+cluster://a:7000,b", "redis+sentinel://a,b/main/2"


def options(client: Any) -> dict[str, Any]:
    used: dict[str, Any] = client.connection_pool.connection_kwargs
    return used


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("rediss://user:secret@redis.example.com:6380/2", "rediss://redis.example.com:6380/2"),
        ("redis://:se@cret@host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@[2001:db8::1]:6379/0", "redis://[2001:db8::1]:6379/0"),
        ("redis://host:6379/0?password=secret", "redis://host:6379/0"),
        ("unix://user:secret@/tmp/redis.sock?db=1", "unix:///tmp/redis.sock"),
        ("redis+sentinel://:secret@a:1,b/main/0", "redis+sentinel://a:1,b/main/0"),
    ],
)
def test_address_is_shown_without_credentials(url: str, shown: str) -> None:
    endpoint = Endpoint(url=url)
    assert endpoint.display == shown
    assert "secret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("settings", "field", "problem"),
    [
        ({"url": "redis://"}, None, ""),
        ({"url": "redis://:secret/word@host"}, "redis.url", "can't be read"),
        ({"url": "redis://:a@h", "password": "secret"}, "redis.password", "redis.url names one already"),
        ({"url": "redis://a@h", "username": "secret"}, "redis.username", "redis.url names one already"),
        ({"url": "redis://a@h", "password": "secret"}, None, ""),
        ({"url": CLUSTER, "prefix": "bull"}, "redis.prefix", "put the prefix in braces, `{bull}` for `bull`"),
        ({"url": CLUSTER, "prefix": "{}bull"}, "redis.prefix", "one slot"),
        ({"url": CLUSTER, "prefix": "bull}{"}, "redis.prefix", "one slot"),
        ({"url": CLUSTER, "prefix": "{bull}"}, None, ""),
        ({"url": CLUSTER, "prefix": "my-{bull}-x"}, None, ""),
        ({"url": SENTINEL, "sentinel_password": "secret"}, None, ""),
        ({"url": "redis://h", "sentinel_password": "secret"}, "redis.sentinel", "is for redis+sentinel://"),
        ({"url": "redis://h", "tls": Tls(ca_file="/ca.pem")}, "redis.tls", "would connect without TLS"),
        ({"url": "redis://h", "tls": Tls(verify=False)}, "redis.tls", "would connect without TLS"),
        ({"url": "unix:///r.sock", "tls": Tls(ca_file="/ca.pem")}, "redis.tls", "would connect without TLS"),
        ({"url": "rediss://h", "tls": Tls(ca_file="/nowhere/ca.pem")}, "redis.tls.ca_file", "/nowhere/ca.pem can't be"),
        ({"url": "rediss://h", "tls": Tls(cert_file="/nowhere")}, "redis.tls.cert_file", "No such file"),
        ({"url": "rediss://h", "tls": Tls(key_file="/nowhere")}, "redis.tls.key_file", "set redis.tls.cert_file too"),
        ({"url": "rediss://h", "tls": Tls(ca_file=__file__)}, "redis.tls.ca_file", "no certificates in PEM form"),
        ({"url": "rediss://h", "tls": Tls(cert_file=__file__)}, "redis.tls.cert_file", "no certificate with its"),
        ({"url": "rediss://h"}, None, ""),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_name(
    settings: dict[str, Any], field: str | None, problem: str
) -> None:
    if field is None:
        Endpoint(**settings)
        return
    with pytest.raises(EndpointError) as refused:
        Endpoint(**settings)
    assert str(refused.value).startswith(f"{field}: ") and problem in str(refused.value)
    assert ".".join(refused.value.path) == field
    assert "secret" not in str(refused.value)


def test_clients_wait_longer_than_they_block_and_never_send_twice() -> None:
    endpoint = Endpoint(url="redis://host:1/3", prefix="pre", connect_timeout_s=2, command_timeout_s=7)
    commands, blocking = endpoint.commands(), endpoint.blocking("q", "w")
    assert options(commands)["socket_timeout"] == 7
    assert options(blocking)["socket_timeout"] == MAX_BLOCK_S + BLOCK_SLACK_S
    for used in (options(commands), options(blocking)):
        assert (used["host"], used["port"], used["db"], used["tls"], used["locator"]) == ("host", 1, 3, None, None)
        assert used["socket_connect_timeout"] == 2
        assert used["protocol"] == 2
        assert used["retry"].get_retries() == 0
        assert (used["decode_responses"], used["encoding_errors"]) == (True, "replace")
    assert options(blocking)["client_name"] == client_name("pre", "q", "w")


def test_command_pool_is_bounded_and_a_queue_blocks_on_one_connection() -> None:
    endpoint = Endpoint(url="redis://host", max_connections=3, command_timeout_s=7)
    commands, blocking = endpoint.commands().connection_pool, endpoint.blocking("q", "w").connection_pool
    assert isinstance(commands, Pool) and isinstance(blocking, Pool)
    assert (commands.max_connections, blocking.max_connections) == (3, 1)
    assert endpoint.open_connections == 0


@pytest.mark.parametrize(
    ("url", "connection", "locator"),
    [
        ("redis://h", TcpConnection, type(None)),
        ("rediss://h", TcpConnection, type(None)),
        (SENTINEL, TcpConnection, SentinelLocator),
        (CLUSTER, TcpConnection, SlotLocator),
        ("unix:///r.sock", UnixConnection, type(None)),
    ],
)
def test_each_kind_of_address_has_its_connections(url: str, connection: type[Any], locator: type[Any]) -> None:
    endpoint = Endpoint(url=url, prefix="{bull}")
    clients = endpoint.commands(), endpoint.blocking("q", "w")
    for client in clients:
        assert client.connection_pool.connection_class is connection
        assert isinstance(options(client).get("locator"), locator)
        assert (options(client).get("tls") is not None) == url.startswith("rediss")
    # A pool may live in a thread of its own: what finds its server is not shared.
    if locator is not type(None):
        assert options(clients[0])["locator"] is not options(clients[1])["locator"]


def test_user_and_password_may_stand_beside_the_url() -> None:
    endpoint = Endpoint(url="redis://h", username="me@here", password="p%40:/")
    assert (options(endpoint.commands())["username"], options(endpoint.commands())["password"]) == ("me@here", "p%40:/")
    inside = replace(endpoint, url="redis://me:p%40@h", username=None, password=None)
    assert (options(inside.commands())["username"], options(inside.commands())["password"]) == ("me", "p@")


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the names are Linux's")
@pytest.mark.parametrize(("keepalive", "times"), [(30.0, (30, 5, 3)), (90.0, (90, 15, 3)), (0.2, (1, 1, 3))])
def test_keepalive_is_in_whole_seconds(keepalive: float, times: tuple[int, int, int]) -> None:
    used = options(Endpoint(url="redis://h", keepalive_s=keepalive).commands())["socket_keepalive_options"]
    assert tuple(used[name] for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)) == times

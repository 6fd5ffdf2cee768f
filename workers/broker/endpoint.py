"""Where Redis is, and the clients of one process: one shared pool for commands, one blocking connection a queue.

Three defaults of redis-py 8 would hurt a worker and are replaced here:
- socket_timeout is 5 s, as long as BullMQ's idle BZPOPMIN blocks: each idle poll then ends in a TimeoutError and a
  growing back-off, and the worker goes deaf for seconds. Our blocking connection waits longer than its block.
- a command is silently sent again after a lost reply: a finished job would be finished twice. We never re-send blindly.
- RESP3 changes the shape of replies: the channel speaks RESP2, which BullMQ's scripts are written for.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from workers.broker.address import Address, EndpointError, parse
from workers.broker.client import FleetRedis
from workers.broker.cluster_slot import SlotLocator, slot_of
from workers.broker.connection import Locator, TcpConnection, UnixConnection, ask
from workers.broker.keys import client_name
from workers.broker.pool import Pool, Pools
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.sentinel import SentinelLocator
from workers.broker.tls import Tls
from workers.broker.workers_seen import LIBRARY

__all__ = ["BLOCK_SLACK_S", "MAX_BLOCK_S", "RECONNECT", "Endpoint", "EndpointError", "Reconnect", "Tls"]

#: The longest BZPOPMIN, seconds. BullMQ's own ceiling: a longer block may sit on a dead connection unnoticed.
MAX_BLOCK_S = 10.0
#: How much later than its block a blocking command may answer before its connection counts as lost, seconds.
BLOCK_SLACK_S = 5.0
#: TCP keep-alive: probes that stay unanswered before a connection is lost, and how much shorter than the silence
#: before the first one the time between them is.
PROBES, PROBE_SHARE = 3, 6


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One Redis or Valkey: a server, the primary that sentinels name, or the node of a cluster that owns the prefix.

    Args:
        url: see `address.parse`.
        prefix: BullMQ's key prefix; must equal the Node side's. On a cluster it needs a hash tag.
        username, password: instead of those in the URL, and not percent-encoded.
        connect_timeout_s: for one connection attempt, and for each question to a sentinel or a cluster node.
        command_timeout_s: for the reply to a non-blocking command.
        keepalive_s: silence after which TCP asks whether the peer still lives.
        max_connections: the most connections for commands of one client; beyond it commands wait their turn.
        reconnect: the waits between tries while Redis is away.
        tls: used with rediss:// alone.
        sentinel_username, sentinel_password: for the sentinels themselves, where they want any.

    Raises:
        EndpointError: a setting can't be used; says which.
    """

    url: str = field(repr=False)
    prefix: str = "bull"
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 5.0
    command_timeout_s: float = 15.0
    keepalive_s: float = 30.0
    max_connections: int = 16
    reconnect: Reconnect = RECONNECT
    tls: Tls = field(default_factory=Tls)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    _pools: Pools = field(default_factory=Pools, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        address = self._address
        for name in ("username", "password"):
            if getattr(self, name) and getattr(address, name):
                raise EndpointError(name, f"redis.url names one already; write the {name} in one place")
        if address.kind == "cluster":
            slot_of(self.prefix)
        if address.kind != "sentinel" and (self.sentinel_username or self.sentinel_password):
            raise EndpointError("sentinel", "is for redis+sentinel:// and rediss+sentinel:// alone")
        if address.tls:
            self.tls.check()
        elif self.tls.is_set:
            raise EndpointError("tls", "is for rediss:// alone; as written, redis.url would connect without TLS")

    @property
    def display(self) -> str:
        """The URL without user, password and query: safe to show."""
        return self._address.display

    @property
    def open_connections(self) -> int:
        """How many connections to Redis this endpoint's clients have open now, in all threads."""
        return self._pools.open

    def commands(self) -> Redis:
        """A client with a pool of connections; nothing is connected yet. It belongs to the event loop that uses it
        first, and the caller closes it."""
        return self._client(socket_timeout=self.command_timeout_s, max_connections=self.max_connections)

    def blocking(self, queue: str, worker: str) -> Redis:
        """A client for one queue's BZPOPMIN, named so that BullMQ's `getWorkers` finds the worker. It has a single
        connection."""
        return self._client(
            socket_timeout=MAX_BLOCK_S + BLOCK_SLACK_S,
            max_connections=1,
            client_name=client_name(self.prefix, queue, worker),
        )

    def listening(self) -> Redis:
        """A client for one reader of event streams, whose XREAD may block as long. It has a single connection."""
        return self._client(socket_timeout=MAX_BLOCK_S + BLOCK_SLACK_S, max_connections=1)

    @cached_property
    def _address(self) -> Address:
        return parse(self.url)

    def _client(self, *, socket_timeout: float, max_connections: int, client_name: str | None = None) -> Redis:
        address = self._address
        options = self._account() | self._protocol(socket_timeout) | {"db": address.db, "client_name": client_name}
        if address.kind == "unix":
            options |= {"connection_class": UnixConnection, "path": address.path}
        else:
            host, port = address.hosts[0]
            options |= {"connection_class": TcpConnection, "host": host, "port": port, "locator": self._locator()}
            options |= self._tcp()
        return _make(self._pools.add(Pool(max_connections=max_connections, wait_s=self.command_timeout_s, **options)))

    def _locator(self) -> Locator | None:
        address = self._address
        asking = self._protocol(self.connect_timeout_s) | self._tcp()
        if address.kind == "sentinel":
            asking |= {"username": self.sentinel_username, "password": self.sentinel_password}
            return SentinelLocator(address.service, address.hosts, partial(ask, account="redis.sentinel", **asking))
        if address.kind == "cluster":
            return SlotLocator(slot_of(self.prefix), address.hosts, partial(ask, **self._account(), **asking))
        return None

    def _account(self) -> dict[str, Any]:
        address = self._address
        return {
            "username": self.username or address.username,
            "password": self.password or address.password,
        }

    def _protocol(self, socket_timeout: float) -> dict[str, Any]:
        return {
            "decode_responses": True,
            "encoding_errors": "replace",
            "protocol": 2,
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": self.connect_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": DriverInfo(name=LIBRARY),
        }

    def _tcp(self) -> dict[str, Any]:
        return {
            "socket_keepalive": True,
            "socket_keepalive_options": _keepalive(self.keepalive_s),
            "tls": self.tls if self._address.tls else None,
        }


def _make(pool: Pool) -> Redis:
    """The client of a pool, which it closes."""
    return FleetRedis.from_pool(pool)


def _keepalive(silence_s: float) -> dict[int, int]:
    """TCP's options, whole seconds; macOS calls the first one differently."""
    names = (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), max(1, round(silence_s))),
        (("TCP_KEEPINTVL",), max(1, round(silence_s / PROBE_SHARE))),
        (("TCP_KEEPCNT",), PROBES),
    )
    found = {}
    for known_as, value in names:
        option = next((getattr(socket, name) for name in known_as if hasattr(socket, name)), None)
        if option is not None:
            found[option] = value
    return found

"""Where Redis is, and the clients of one process: one shared pool for commands, one blocking connection a queue.

Three defaults of redis-py 8 would hurt a worker and are replaced here:
- socket_timeout is 5 s, as long as BullMQ's idle BZPOPMIN blocks: each idle poll then ends in a TimeoutError and a
  growing back-off, and the worker goes deaf for seconds. Our blocking connection waits longer than its block.
- a command is silently sent again after a lost reply: a finished job would be finished twice. We never re-send blindly.
- RESP3 changes the shape of replies: the channel speaks RESP2, which BullMQ's scripts are written for.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from workers.broker.client import FleetRedis
from workers.broker.keys import client_name

#: The longest BZPOPMIN, seconds. BullMQ's own ceiling: a longer block may sit on a dead connection unnoticed.
MAX_BLOCK_S = 10.0
#: How much later than its block a blocking command may answer before its connection counts as lost, seconds.
BLOCK_SLACK_S = 5.0


class EndpointError(ValueError):
    """The URL can't be read. Says nothing of it: a password with a raw `/`, `#` or `?` shows up in any of its parts."""

    def __init__(self) -> None:
        super().__init__(
            "redis.url can't be read: write redis://user:password@host:6379/0 (or rediss://, or unix:///path), "
            "with user and password percent-encoded"
        )


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One Redis or Valkey server.

    Args:
        url: redis://, rediss:// or unix://; user and password percent-encoded.
        prefix: BullMQ's key prefix; must equal the Node side's.
        connect_timeout_s: for one connection attempt.
        command_timeout_s: for the reply to a non-blocking command.

    Raises:
        EndpointError: the URL can't be read.
    """

    url: str
    prefix: str = "bull"
    connect_timeout_s: float = 5.0
    command_timeout_s: float = 15.0

    def __post_init__(self) -> None:
        try:
            parse_url(self.url)
        except ValueError:
            raise EndpointError from None

    @property
    def display(self) -> str:
        """The URL without user, password and query: safe to show."""
        parts = urlsplit(self.url)
        after = parts.path if parts.scheme == "unix" else f"{parts.path}{parts.query}{parts.fragment}"
        if "@" in after:  # a raw / ? or # in the password: what looks like the host is a part of it
            return f"{parts.scheme}://…"
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{host}{port}{parts.path}"

    def commands(self) -> Redis:
        """A client with a pool of connections; nothing is connected yet. The caller closes it."""
        return self._client(socket_timeout=self.command_timeout_s)

    def blocking(self, queue: str, worker: str) -> Redis:
        """A client for one queue's BZPOPMIN, named so that BullMQ's `getWorkers` finds the worker."""
        return self._client(
            socket_timeout=MAX_BLOCK_S + BLOCK_SLACK_S,
            client_name=client_name(self.prefix, queue, worker),
        )

    def _client(self, *, socket_timeout: float, client_name: str | None = None) -> Redis:
        return FleetRedis.from_url(
            self.url,
            decode_responses=True,
            encoding_errors="replace",
            protocol=2,
            socket_timeout=socket_timeout,
            socket_connect_timeout=self.connect_timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name=client_name,
        )

"""Where the primary is, asked of the sentinels as their guide for clients says: one after the other, the one that
answered first from then on, and then the server itself, whether it agrees.

Source: redis.io, "Guidelines for Redis clients with support for Redis Sentinel".

After a fail-over by command the old primary goes on as one until a sentinel tells it otherwise, up to ten seconds
later, and then all is lost that it took meanwhile. So we don't wait for it to refuse us, but ask while we use it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError

from workers.broker.connection import Ask, Node

#: Between two questions whether the primary is still the same one, seconds; asked only while commands are sent.
LOOK_S = 2.0


class SentinelLocator:
    """Finds the primary of one service.

    Args:
        service: the name by which the sentinels know it.
        sentinels: at least one.
        ask: sends one command to one sentinel.
    """

    def __init__(self, service: str, sentinels: Sequence[Node], ask: Ask) -> None:
        self._service = service
        self._sentinels = list(sentinels)
        self._ask = ask
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self.address: Node | None = None

    async def locate(self) -> Node:
        """The primary's address.

        Raises:
            redis.exceptions.ConnectionError: no sentinel answers, or none knows the service.
        """
        refusals = []
        for sentinel in tuple(self._sentinels):
            host, port = sentinel
            try:
                reply = await self._ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            except (RedisError, OSError) as error:
                refusals.append(f"{host}:{port}: {error}")
                continue
            if reply:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                self.address = node = str(reply[0]), int(reply[1])
                self._look_at = time.monotonic() + LOOK_S
                return node
            refusals.append(f"{host}:{port} knows no primary of that name")
        raise RedisConnectionError(f"no sentinel says where {self._service!r} is (redis.url): {'; '.join(refusals)}")

    async def accept(self, connection: AbstractConnection) -> None:
        """A primary that comes back takes itself for the primary's replica only when a sentinel has told it so."""
        await connection.send_command("ROLE", check_health=False)
        try:
            role = (await connection.read_response())[0]
        except NoPermissionError:  # then the first write tells
            return
        if role != "master":
            self.address = None
            raise RedisConnectionError(f"{connection._host_error()} is not the primary of {self._service!r} any more")

    def remind(self) -> None:
        """Ask again if that is some time ago; a new answer counts from the next command on."""
        if time.monotonic() >= self._look_at and (self._looking is None or self._looking.done()):
            self._look_at = time.monotonic() + LOOK_S
            self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        """Stop asking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self) -> None:
        with suppress(RedisConnectionError):  # no sentinel answers: the primary we know is as good as any
            await self.locate()

    def doubt(self, node: Node, hint: Node | None) -> None:
        """No connection to this address is used again."""
        if self.address == node:
            self.address = None

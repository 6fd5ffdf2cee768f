"""A bounded pool of connections: beyond the bound a command waits its turn, first come, first served."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.broker.connection import Locator, Node, TcpConnection


class Pool(ConnectionPool):
    """redis-py's pool with turns. Its own bounded pool gives and takes connections under an asyncio.Condition; a
    task that is cancelled while it waits for that lock keeps its connection for good.

    Args:
        max_connections: the bound.
        wait_s: how long a command waits for its turn.
        options: of the connections; see redis-py's ConnectionPool.
    """

    def __init__(self, *, max_connections: int, wait_s: float, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._turns = asyncio.Semaphore(max_connections)
        self._wait_s = wait_s
        self._locator: Locator | None = options.get("locator")
        self._at: Node | None = None

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """A connected connection; give it back by `release`.

        Raises:
            redis.exceptions.ConnectionError: none became free in time, or the server can't be reached.
        """
        if self._turns.locked():
            await self._wait_for_turn()
        else:
            await self._turns.acquire()  # at once
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
            if self._locator is not None and self._locator.address != self._at:
                await self._leave(self._locator.address)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise RedisConnectionError(
                f"all {self.max_connections} connections are in use for {self._wait_s:g} s "
                "(redis.max_connections, redis.command_timeout)"
            ) from None

    async def _leave(self, node: Node | None) -> None:
        """Close the idle connections to where the server was."""
        self._at = node
        for idle in cast("list[TcpConnection]", [*self._available_connections]):
            if (idle.host, idle.port) != node:
                await idle.disconnect(nowait=True)

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back, whatever becomes of the caller meanwhile."""
        try:
            if connection.should_reconnect():  # type: ignore[no-untyped-call]
                await connection.disconnect(nowait=True)
        finally:
            self._in_use_connections.discard(connection)
            self._available_connections.append(connection)
            self._turns.release()

    async def aclose(self) -> None:
        """Close all connections, and stop asking where the server is."""
        if self._locator is not None:
            await self._locator.close()
        await super().aclose()

    @property
    def open(self) -> int:
        """Connections that are open now, in use or idle."""
        return sum(c.is_connected for c in (*self._available_connections, *self._in_use_connections))


class Pools:
    """All pools that one process has made of an endpoint, in whichever threads."""

    def __init__(self) -> None:
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._guard = threading.Lock()

    def add(self, pool: Pool) -> Pool:
        """Count this pool's connections from now on."""
        with self._guard:
            self._pools.add(pool)
        return pool

    @property
    def open(self) -> int:
        """Connections that are open now."""
        with self._guard:
            return sum(pool.open for pool in self._pools)

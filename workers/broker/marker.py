"""BullMQ's marker: the sorted set on which an idle worker blocks until a job is there or becomes due."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError


class Marker:
    """One queue's marker, for one waiter at a time.

    Args:
        key: the marker's name in Redis.
        blocking: the connection that blocks.
        client: another one, which ends a block.
    """

    def __init__(self, key: str, blocking: Redis, client: Redis) -> None:
        self._key = key
        self._blocking = blocking
        self._client = client
        self._unblocking: set[asyncio.Future[None]] = set()

    async def wait(self, block_s: float, *, precisely: bool = False) -> int | None:
        """Block for at most `block_s` seconds. Returns when a job is or will be there: 0 for now, else ms since the
        epoch; None when the time is over.

        A server ends a block up to 100 ms late, because its timers turn ten times a second. With `precisely` we end
        it ourselves, by CLIENT UNBLOCK; where that is not permitted, the server's own time holds.
        """
        alarm: asyncio.TimerHandle | None = None
        if precisely:
            with suppress(NoPermissionError):
                client_id = await self._blocking.client_id()
                alarm = asyncio.get_running_loop().call_later(block_s, self._unblock, client_id)
        try:
            reply = await self._blocking.bzpopmin(self._key, block_s)
        finally:
            if alarm is not None:
                alarm.cancel()
        return int(float(reply[2])) if reply else None

    def _unblock(self, client_id: int) -> None:
        async def unblock() -> None:
            with suppress(RedisError, OSError):
                await self._client.client_unblock(client_id)

        task = asyncio.ensure_future(unblock())
        self._unblocking.add(task)
        task.add_done_callback(self._unblocking.discard)

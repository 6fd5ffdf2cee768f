"""The Redis client of the workers: it says what is known about a command that failed, and never sends one again.

NotSentError      no connection: the command did not run and may be sent
ResponseError     the server refused it (redis-py's own class): it did not run, or its script broke
ReplyLostError    it was sent and the reply did not come: it ran, or not, or will. `bury` rules the last one out
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

log = logging.getLogger(__name__)

_LOST = (RedisConnectionError, RedisTimeoutError, OSError)


class NotSentError(RedisConnectionError):
    """There was no connection to send the command on; it did not run."""


class ReplyLostError(RedisConnectionError):
    """The connection broke after the command was sent."""

    def __init__(self, message: str, client_id: int | None) -> None:
        super().__init__(message)
        self.client_id = client_id
        """The broken connection's id at the server; None where it could not be asked for."""


class FleetRedis(Redis):
    """redis.asyncio.Redis whose failures are NotSentError or ReplyLostError, both ConnectionErrors of redis-py."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.connection_pool.connection_kwargs
        self._name: str = options.get("client_name") or f"fleet:{secrets.token_hex(8)}"
        options["client_name"] = self._name
        options["redis_connect_func"] = _connected

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command once.

        Raises:
            NotSentError, ReplyLostError: see there.
            redis.exceptions.RedisError: what the server answered.
        """
        await self.initialize()
        try:
            connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        except _LOST as error:
            raise NotSentError(str(error) or type(error).__name__) from error
        try:
            send = self._send_command_parse_response
            return await send(connection, args[0], *args, **options)  # type: ignore[no-untyped-call]
        except BusyLoadingError:  # an answer, though redis-py counts it as a connection's failure
            raise
        except _LOST as error:
            await connection.disconnect()
            client_id = getattr(connection, "fleet_client_id", None)
            raise ReplyLostError(str(error) or type(error).__name__, client_id) from error
        finally:
            await self.connection_pool.release(connection)

    async def bury(self, error: BaseException) -> None:
        """After this, a command whose reply was lost does not run any more: its connection is closed at the server.

        Without it a look at the data races with the command, which may still wait in the old connection's buffer.
        Another client's connection is never hit, although ids start anew when the server does: ours is known by its
        name.

        Raises:
            NotSentError, ReplyLostError: the server is still away; nothing is known yet.
        """
        if not isinstance(error, ReplyLostError) or error.client_id is None:
            return
        try:
            found = await self.client_list(client_id=[str(error.client_id)])
            if any(entry.get("name") == self._name for entry in found):
                await self.client_kill_filter(_id=str(error.client_id))
        except (NoPermissionError, ResponseError) as refused:
            log.warning("the old connection can't be closed (%s); its command may still run", refused)


async def _connected(connection: Any) -> None:
    """What redis-py does on a new connection, and the connection's id for `bury`."""
    await connection.on_connect()
    connection.fleet_client_id = None
    try:
        await connection.send_command("CLIENT", "ID", check_health=False)
        connection.fleet_client_id = int(await connection.read_response())
    except ResponseError:  # not permitted by the server's ACL
        log.debug("CLIENT ID is not permitted")

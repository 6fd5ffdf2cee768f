"""Connections to Redis that say clearly why they failed, and that are dropped when their server has lost its role.

Where the server is looked up (Sentinel, Cluster), that happens on every connect, so that no connection goes back to
an address that was right once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from workers.broker.tls import NOT_TLS, Tls, explain

#: How redis-py says that the server closed the connection. A server whose handshake failed often does no more: with
#: TLS 1.3 its alert comes after the client's, and a reset overtakes it.
_HUNG_UP = ("closed by server", "reset by peer", "Broken pipe", "[SSL:")

#: A host and a port.
Node: TypeAlias = tuple[str, int]


class Locator(Protocol):
    """Knows where the server is now. Belongs to one pool."""

    address: Node | None
    """The last answer; None while it is in doubt. A connection to anywhere else is not used again."""

    async def locate(self) -> Node:
        """Ask.

        Raises:
            redis.exceptions.ConnectionError: nobody knows; the message says who was asked.
        """
        ...

    async def accept(self, connection: AbstractConnection) -> None:
        """Look at a new connection; raises ConnectionError where its server is not the one that was looked for."""
        ...

    def remind(self) -> None:
        """A connection is used again. Costs nothing, and may start to ask anew beside it."""
        ...

    async def close(self) -> None:
        """Stop asking."""
        ...

    def doubt(self, node: Node, hint: Node | None) -> None:
        """This address was wrong, or is not any more; `hint` is what the server said instead."""
        ...


class _Careful(AbstractConnection):
    """What our TCP and our Unix connections have in common."""

    locator: Locator | None = None
    tls: Tls | None = None
    account: str = "redis.url"

    async def connect(self) -> None:
        """Be connected to where the server is now."""
        if self.is_connected:
            if self.locator is None:
                return
            self.locator.remind()
            if self.locator.address == (self.host, self.port):  # type: ignore[attr-defined]
                return
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet the server; what it objects to is said with the field to look at."""
        where = self._host_error()
        try:
            await super().on_connect_check_health(check_health=check_health)
            if self.locator is not None:
                await self.locator.accept(self)
        except AuthenticationError as error:
            raise AuthenticationError(f"{where} refuses user and password: {error} ({self.account})") from error
        except NoPermissionError as error:
            raise NoPermissionError(f"{where}: {error} ({self.account})") from error
        except RedisConnectionError as error:
            raise RedisConnectionError(self._hint(str(error))) from error

    def _hint(self, said: str) -> str:
        """What it may mean that a server hangs up on a greeting."""
        if not any(sign in said for sign in _HUNG_UP):
            return said
        said = said.rstrip(".")
        if self.tls is not None:
            return f"{said} at once; if it asks for a certificate, see redis.tls.cert_file and redis.tls.key_file"
        return f"{said} at once; if {self._host_error()} wants TLS, write rediss:// (redis.url)"

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """redis-py's, without its asyncio.wait_for: that is one more task for each command, and before Python 3.12 it
        may swallow the caller's cancellation."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        packed = command.encode() if isinstance(command, str) else command
        writer = self._writer
        assert writer is not None  # noqa: S101 - connected just now
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([packed] if isinstance(packed, bytes) else packed)
                await writer.drain()
        except BaseException as error:  # half a command may be on its way
            await self.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"Timeout writing to {self._host_error()}") from None
            if isinstance(error, OSError):
                raise RedisConnectionError(f"Error while writing to {self._host_error()}: {error}") from error
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply; when it says that this server is the wrong one now, the connection ends with this command."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            if is_wrong_server(error):
                if self.locator is not None:
                    node: Node = self.host, self.port  # type: ignore[attr-defined]
                    self.locator.doubt(node, _hinted(error, node[0]))
                self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


class TcpConnection(_Careful, Connection):
    """A connection by TCP, with or without TLS.

    Args:
        tls: None for a connection in the clear.
        locator: None for a server that stays where `host` and `port` say.
        account: the field that the user and the password come from, for messages.
    """

    def __init__(
        self, *, tls: Tls | None = None, locator: Locator | None = None, account: str = "redis.url", **options: Any
    ) -> None:
        self.tls = tls
        self.locator = locator
        self.account = account
        super().__init__(**options)

    def _connection_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"host": self.host, "port": self.port}
        if self.tls is not None:
            arguments |= {"ssl": self.tls.context(), "server_hostname": self.tls.server_name or self.host}
        return arguments

    async def _connect(self) -> None:
        if self.locator is not None:
            self.host, self.port = await self.locator.locate()
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except ssl.SSLError as error:
            said = explain(error, self.tls) if self.tls is not None else str(error)
            raise RedisConnectionError(f"TLS to {self._host_error()} failed: {said}") from error
        except OSError as error:
            if self.locator is not None:
                self.locator.doubt((self.host, self.port), None)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(self._late()) from None
            raise

    def _late(self) -> str:
        said = f"{self._host_error()} did not answer within {self.socket_connect_timeout:g} s (redis.connect_timeout)"
        return f"{said}; if {NOT_TLS} (redis.url)" if self.tls is not None else said


class UnixConnection(_Careful, UnixDomainSocketConnection):
    """A connection by Unix socket."""

    async def _connect(self) -> None:
        # redis-py's own greets the server here and again in its caller, and leaves the socket open when that fails.
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(path=self.path)


def is_wrong_server(error: ResponseError) -> bool:
    """Whether the answer means: this server does not serve the key, or takes no writes, until its role changes again.

    An ASK is none: the slot is on its way, and still here.
    """
    if isinstance(error, MovedError | ReadOnlyError | ClusterDownError | MasterDownError):
        return True
    # A client that is blocked when its primary is demoted; scripts' errors before Redis 7.
    return type(error) is ResponseError and (str(error).startswith("UNBLOCKED") or "-READONLY " in str(error))


def _hinted(error: ResponseError, asked: str) -> Node | None:
    return (error.host or asked, error.port) if isinstance(error, MovedError) else None


#: Sends one command on a connection of its own and returns the reply; raises RedisError or OSError.
Ask: TypeAlias = Callable[..., Any]


async def ask(node: Node, *words: str, **options: Any) -> Any:
    """One command to one server, on a connection that is closed afterwards.

    Raises:
        redis.exceptions.RedisError, OSError: it is not there, or refuses.
    """
    connection = TcpConnection(host=node[0], port=node[1], **options)
    try:
        await connection.connect()
        await connection.send_command(*words, check_health=False)
        return await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)

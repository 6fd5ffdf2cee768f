"""Commands and scripts that only read, many in one round trip."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from workers.broker.refusals import may_pass

#: What a look raises that Redis has not answered, or not as it should.
UNANSWERED = (RedisError, OSError)
#: A command's words.
Command: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Lua:
    """A script that reads and changes nothing, so that it may be sent again."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: Sequence[str], args: Iterable[Any]) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


class Batch:
    """Sends commands together. Belongs to one event loop, as its client does.

    Args:
        client: commands; closed by whoever made it.
        scripts: those among the commands; sent along the first time, and again when the server has lost them.
    """

    def __init__(self, client: Redis, *scripts: Lua) -> None:
        self._client = client
        self._scripts = scripts
        self._loaded = False

    async def __call__(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order; of a command that the server refused, the exception.

        Raises:
            redis.exceptions.RedisError, OSError: Redis is away, or is not in a state to answer.
        """
        if not commands:
            return []
        replies = await self._send(commands, load=not self._loaded)
        lost = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if lost:  # the server was replaced or restarted, or somebody flushed its scripts
            for place, reply in zip(lost, await self._send([commands[at] for at in lost], load=True), strict=True):
                replies[place] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                lasting(reply)
        return replies

    async def _send(self, commands: Sequence[Command], *, load: bool) -> list[Any]:
        pipe: Any = self._client.pipeline(transaction=False)
        loads = [("SCRIPT LOAD", script.text) for script in self._scripts] if load else []
        for words in (*loads, *commands):
            pipe.execute_command(*words)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        if load and not any(isinstance(reply, Exception) for reply in replies[: len(loads)]):
            self._loaded = True
        return replies[len(loads) :]


def lasting(error: Exception) -> str:
    """What is wrong with one key or one permission; raises what is wrong with the server."""
    if isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and not may_pass(error)):
        return str(error)
    raise error


def told(reply: Any) -> Any:
    """A reply; raises it where the server refused."""
    if isinstance(reply, Exception):
        raise reply
    return reply

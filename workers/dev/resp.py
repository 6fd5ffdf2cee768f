"""One question to a Redis server on this machine, in raw RESP2. Enough to see who answers, not a client.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import asyncio

from workers.dev.ports import LOOPBACK

LARGEST_REPLY = 65_536  # bytes of one string; INFO is about 7 kB


class ErrorReply(Exception):
    """The server answered with an error, such as `LOADING …` while it reads its files."""


async def ask(port: int, *words: str, timeout_s: float = 1.0) -> str:
    """Send one command on a fresh connection to the loopback interface and return its string reply.

    Args:
        port: the TCP port.
        words: the command and its arguments.
        timeout_s: seconds for connecting, sending and reading together. Defaults to 1.

    Raises:
        ErrorReply: the server refused the command.
        OSError: nobody listens, the peer hung up, speaks something else, or took too long (TimeoutError).
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(_encode(words))
            await writer.drain()
            return await _read_string(reader)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise ConnectionError(f"port {port} does not answer as a Redis server does") from error
        finally:
            writer.close()


async def serving_pid(port: int) -> int | None:
    """The process id of the Redis server that is ready on `port`; None if none is, or it still loads its files."""
    try:
        if await ask(port, "PING") != "PONG":
            return None
        info = await ask(port, "INFO", "server")
    except (OSError, ErrorReply):
        return None
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    pid = fields.get("process_id", "")
    return int(pid) if pid.isdecimal() else None


def _encode(words: tuple[str, ...]) -> bytes:
    bulks = [word.encode() for word in words]
    return b"*%d\r\n" % len(bulks) + b"".join(b"$%d\r\n%b\r\n" % (len(bulk), bulk) for bulk in bulks)


async def _read_string(reader: asyncio.StreamReader) -> str:
    line = (await reader.readuntil(b"\r\n"))[:-2].decode(errors="replace")
    kind, rest = line[:1], line[1:]
    if kind == "+":
        return rest
    if kind == "-":
        raise ErrorReply(rest)
    if kind != "$" or not 0 <= int(rest) <= LARGEST_REPLY:
        raise ValueError(f"unexpected reply {kind!r}")
    return (await reader.readexactly(int(rest) + 2))[:-2].decode(errors="replace")

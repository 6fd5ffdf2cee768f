"""RESP2 as it crosses a proxy: where a message ends, and what a request asks for.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bullmq

from workers.broker import add_script

#: Bytes of one message that are held back until it is whole.
LARGEST_MESSAGE = 64 * 1024 * 1024
#: How much of a request is remembered: words, and bytes of each.
WORDS_KEPT, BYTES_KEPT = 48, 256


class WireError(Exception):
    """What came over the wire is not RESP2, or larger than is held."""


def end_of(buffer: bytes | bytearray, at: int = 0) -> int | None:
    """The index behind the value that starts at `at`; None while it is not all there.

    Raises:
        WireError: no RESP2 value starts there.
    """
    line = buffer.find(b"\r\n", at)
    if line < 0:
        return None
    kind, rest, end = bytes(buffer[at : at + 1]), bytes(buffer[at + 1 : line]), line + 2
    if kind in (b"+", b"-", b":"):
        return end
    if kind not in (b"$", b"*") or not rest.removeprefix(b"-").isdigit():
        raise WireError(f"not RESP2: {bytes(buffer[at : at + 20])!r}")
    size = int(rest)
    if kind == b"$":
        end += size + 2 if size >= 0 else 0
        return end if end <= len(buffer) else None
    for _ in range(size):
        inner = end_of(buffer, end)
        if inner is None:
            return None
        end = inner
    return end


class Messages:
    """Cuts a stream into whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what arrived; yield each message that it completes.

        Raises:
            WireError: see `end_of`; also for a message of more than LARGEST_MESSAGE bytes.
        """
        self._buffer += data
        while self._buffer and (end := end_of(self._buffer)) is not None:
            message = bytes(self._buffer[:end])
            del self._buffer[:end]
            yield message
        if len(self._buffer) > LARGEST_MESSAGE:
            raise WireError(f"a message of more than {LARGEST_MESSAGE:,} bytes")


@dataclass(slots=True, eq=False)
class Request:
    """A command on its way to the server."""

    link: int
    """The number of its connection, in the order in which they were accepted."""
    name: str
    """The command; of EVALSHA the script's name, if it is one of BullMQ's, or `addJobs`."""
    words: tuple[bytes, ...]
    """The command and its arguments, cut to a readable size."""
    passed: bool = False
    """The server was given all of it."""


def read_request(link: int, message: bytes) -> Request:
    """What a request asks for.

    Raises:
        WireError: it is not an array of strings.
    """
    words = tuple(word[:BYTES_KEPT] for word in _words(message))
    if not words:
        raise WireError("an empty request")
    name = words[0].decode("ascii", "replace").upper()
    if name == "EVALSHA" and len(words) > 1:
        name = script_names().get(words[1].decode("ascii", "replace").lower(), name)
    return Request(link, name, words)


def _words(message: bytes) -> Iterator[bytes]:
    if message[:1] != b"*":
        raise WireError(f"not a request: {message[:20]!r}")
    at = message.index(b"\r\n") + 2
    for _ in range(min(int(message[1 : at - 2]), WORDS_KEPT)):
        line = message.index(b"\r\n", at)
        if message[at : at + 1] != b"$":
            raise WireError(f"not a request: {message[:20]!r}")
        start = line + 2
        at = start + int(message[at + 1 : line]) + 2
        yield message[start : at - 2]


@cache
def script_names() -> dict[str, str]:
    """BullMQ's scripts by the SHA-1 that EVALSHA names them by, and the one of ours that adds jobs by them."""
    folder = Path(str(bullmq.__file__)).parent / "commands"
    names = {hashlib.sha1(path.read_bytes()).hexdigest(): path.stem.partition("-")[0] for path in folder.glob("*.lua")}
    return {**names, hashlib.sha1(add_script.text().encode()).hexdigest(): "addJobs"}

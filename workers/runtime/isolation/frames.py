"""Frames between a process and its child: a length in four bytes, big endian, and as many bytes of JSON. Pure.

JSON as Python writes it: NaN and infinities pass, and so do lone surrogates, which a job's data may hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Bytes of the longest frame, either way: far above what a queue accepts as data (`max_data`, 4 MB by default).
MAX_FRAME = 64 * 2**20

_HEAD = 4
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class FrameError(ValueError):
    """It is no frame, or too large for one."""


def pack(message: Mapping[str, Any]) -> bytes:
    """The frame of a message.

    Raises:
        FrameError: it is longer than MAX_FRAME, or nested too deeply.
        ValueError, TypeError: it is not JSON.
    """
    try:
        body = _encode(message).encode("utf-8", "surrogatepass")
    except RecursionError as error:
        raise FrameError("nested too deeply") from error
    if len(body) > MAX_FRAME:
        raise FrameError(f"{len(body):,} bytes as JSON, more than the {MAX_FRAME:,} that one frame carries")
    return len(body).to_bytes(_HEAD, "big") + body


class Unpacker:
    """Takes bytes as they come and gives messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take what came."""
        self._bytes += data

    def next(self) -> dict[str, Any] | None:
        """The next message; None: it has not come yet.

        Raises:
            FrameError: what came is no frame.
        """
        if len(self._bytes) < _HEAD:
            return None
        length = int.from_bytes(self._bytes[:_HEAD], "big")
        if length > MAX_FRAME:
            raise FrameError(f"a frame of {length:,} bytes, more than {MAX_FRAME:,}")
        if len(self._bytes) < _HEAD + length:
            return None
        body = bytes(self._bytes[_HEAD : _HEAD + length])
        del self._bytes[: _HEAD + length]
        return _message(body)


def _message(body: bytes) -> dict[str, Any]:
    try:
        message = _decode(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON ({type(error).__name__})") from error
    if not isinstance(message, dict):
        raise FrameError("no object")
    return message

"""Frames: what is packed comes out again, however it is cut; what is none is refused."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.isolation import frames
from workers.runtime.isolation.frames import FrameError, Unpacker, pack

#: JSON as Python has it, lone surrogates included.
TEXT = st.text(st.characters(codec=None))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
MESSAGES = st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=5)


def unpacked(unpacker: Unpacker) -> list[dict[str, Any]]:
    found = []
    while (message := unpacker.next()) is not None:
        found.append(message)
    return found


@given(messages=MESSAGES, cuts=st.lists(st.integers(min_value=0, max_value=2000), max_size=8))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[dict[str, Any]], cuts: list[int]
) -> None:
    data = b"".join(pack(message) for message in messages)
    unpacker, found, start = Unpacker(), [], 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        unpacker.feed(data[start:end])
        found += unpacked(unpacker)
        start = end
    assert found == messages


def test_what_is_no_number_in_json_passes_all_the_same() -> None:
    unpacker = Unpacker()
    unpacker.feed(pack({"nan": math.nan, "inf": -math.inf}))
    message = unpacker.next()
    assert message is not None
    assert math.isnan(message["nan"])
    assert message["inf"] == -math.inf


@given(data=st.binary(max_size=200))
def test_garbage_gives_messages_or_a_frame_error_and_nothing_else(data: bytes) -> None:
    unpacker = Unpacker()
    unpacker.feed(data)
    with contextlib.suppress(FrameError):
        assert all(isinstance(message, dict) for message in unpacked(unpacker))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff\xff\xff\xff", "a frame of 4,294,967,295 bytes, more than 67,108,864"),
        (b"\x00\x00\x00\x02no", "not JSON"),
        (b"\x00\x00\x00\x02[]", "no object"),
        (b"\x00\x00\x00\x01\xff", "not JSON"),
        (b"\x00\x00\x00\x00", "not JSON"),
        (b"\x00\x03\x0d\x40" + b"[" * 200_000, "not JSON"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, problem: str) -> None:
    unpacker = Unpacker()
    unpacker.feed(data)
    with pytest.raises(FrameError, match=problem):
        unpacker.next()


def test_message_that_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 20)
    assert pack({"a": "x" * 12}) == b'\x00\x00\x00\x14{"a":"xxxxxxxxxxxx"}'
    with pytest.raises(FrameError, match="21 bytes as JSON, more than the 20 that one frame carries"):
        pack({"a": "x" * 13})


@pytest.mark.parametrize(("value", "error"), [({1}, TypeError), (b"", TypeError), (object(), TypeError)])
def test_message_that_is_no_json_is_not_sent(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        pack({"a": value})


def test_message_that_is_nested_without_end_is_not_sent() -> None:
    endless: list[Any] = []
    for _ in range(100_000):
        endless = [endless]
    with pytest.raises(FrameError, match="nested too deeply"):
        pack({"a": endless})

"""The host's end of the socket: in order, a few at a time, held, broken, closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.runtime.isolation.channel import AT_ONCE, Channel
from workers.runtime.isolation.frames import FrameError, Unpacker, pack


class Rig:
    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.broken: list[Exception] = []
        self.refuses: Exception | None = None
        self.channel = Channel(self._take, self.broken.append)
        self.ours, self.other = socket.socketpair()
        self.ours.setblocking(False)

    def _take(self, message: dict[str, Any]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.taken.append(message["n"])

    def says(self, *numbers: int) -> None:
        self.other.sendall(b"".join(pack({"n": number}) for number in numbers))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.channel.open(rig.ours)
    yield rig
    rig.other.close()
    rig.channel.close()
    await rig.channel.closed


async def test_messages_are_taken_in_order_and_sent_as_frames(rig: Rig) -> None:
    rig.says(1, 2, 3)
    await wait_until(lambda: rig.taken == [1, 2, 3])
    rig.channel.send({"a": 1})
    unpacker = Unpacker()
    unpacker.feed(rig.other.recv(1000))
    assert unpacker.next() == {"a": 1}


async def test_flood_of_messages_leaves_the_loop_to_others_in_between(rig: Rig) -> None:
    rig.says(*range(1000))
    turns = 0
    while len(rig.taken) < 1000:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 1000 / AT_ONCE
    assert rig.taken == list(range(1000))


async def test_nothing_is_taken_while_it_is_held(rig: Rig) -> None:
    rig.channel.hold(True)
    rig.says(1)
    await asyncio.sleep(0.05)
    assert rig.taken == []
    rig.channel.hold(False)
    await wait_until(lambda: rig.taken == [1])


@pytest.mark.parametrize("error", [FrameError("odd"), KeyError("is"), TypeError("no"), ValueError("no")])
async def test_nothing_more_is_taken_after_what_was_no_message(rig: Rig, error: Exception) -> None:
    rig.refuses = error
    rig.says(1, 2)
    await wait_until(lambda: rig.broken)
    rig.refuses = None
    rig.says(3)
    await asyncio.sleep(0.05)
    assert (rig.broken, rig.taken) == ([error], [])


async def test_what_had_come_is_taken_before_it_is_closed(rig: Rig) -> None:
    rig.channel.hold(True)
    rig.says(*range(100))
    rig.channel.hold(False)
    rig.other.close()
    await asyncio.wait_for(rig.channel.closed, 20)
    assert rig.taken == list(range(100))


async def test_sending_to_nobody_is_no_error(rig: Rig) -> None:
    rig.other.close()
    for _ in range(10):
        rig.channel.send({"a": 1})
    await asyncio.wait_for(rig.channel.closed, 20)
    rig.channel.send({"a": 1})


async def test_closing_without_ever_having_been_open_is_no_error() -> None:
    rig = Rig()
    rig.channel.close()
    rig.channel.send({"a": 1})
    rig.ours.close()
    rig.other.close()

"""Beats on a pipe: what is sent is what is heard, and what is no beat is nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import wait_until
from workers.runtime import beat
from workers.runtime.beat import Beat, read
from workers.runtime.process import State

states = st.builds(State, st.text(max_size=20), st.booleans(), st.text(max_size=50))
beats = st.builds(Beat, st.booleans(), st.booleans(), st.lists(states, max_size=5).map(tuple))


@given(beats)
def test_beat_is_heard_as_it_was_sent(sent: Beat) -> None:
    line = sent.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read(line) == sent


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"started":true,"ready":true}',
        b'{"started":true,"ready":true,"states":null}',
        b'{"started":true,"ready":true,"states":7}',
        b'{"started":true,"ready":true,"states":[7]}',
        b'{"started":true,"ready":true,"states":["abc"]}',
        b'{"started":true,"ready":true,"states":[{"name":"redis"}]}',
        b'{"ready":true,"states":[]}',
        b"9" * 5000,
    ],
)
def test_what_is_no_beat_is_ignored(line: bytes) -> None:
    assert read(line) is None


def test_only_true_is_true() -> None:
    said = {"started": "yes", "ready": 1, "states": [{"name": 5, "ok": "ok", "detail": None}]}
    assert read(json.dumps(said).encode()) == Beat(False, False, (State("5", False, "None"),))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_reading_never_raises(line: bytes) -> None:
    assert read(line) is None


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as ears, os.fdopen(writer, "wb", 0) as mouth:
        yield ears, mouth


async def test_sender_beats_until_the_other_end_is_closed(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0.001)
    ears, mouth = pipe
    ready = False
    states = [State("q", True, "d")]
    sending = asyncio.create_task(beat.send(mouth.fileno(), lambda: True, lambda: ready, lambda: states))
    assert read(await asyncio.to_thread(ears.readline)) == Beat(True, False, tuple(states))
    ready = True
    while read(await asyncio.to_thread(ears.readline)) != Beat(True, True, tuple(states)):
        continue
    ears.close()
    await asyncio.wait_for(sending, 20)


async def test_sender_never_waits_for_a_supervisor_that_does_not_listen(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0)
    sent = 0

    def states() -> list[State]:
        nonlocal sent
        sent += 1
        return [State("q", True, "x" * 10_000)]

    sending = asyncio.create_task(beat.send(pipe[1].fileno(), lambda: True, lambda: True, states))
    await wait_until(lambda: sent > 50)  # far more than a pipe holds
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

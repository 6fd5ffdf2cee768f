"""Beats on a pipe: what is sent is what is heard, and what is no beat is nothing."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import wait_until
from workers.runtime.process import State
from workers.runtime.supervision import beat
from workers.runtime.supervision.beat import (
    MAX_EXTRA,
    MAX_LINE,
    MAX_RUNNING,
    MAX_TEXT,
    Beat,
    Report,
    RunningJob,
    extra,
    read,
)

names = st.text(max_size=20)
numbers = st.floats(0, 1e9)
states = st.builds(State, names, st.booleans(), st.text(max_size=50))
jobs = st.builds(RunningJob, names, names, names, numbers)
reports = st.builds(
    Report,
    pid=st.integers(0, 2**31),
    uptime_s=numbers,
    rss=st.integers(0, 2**45),
    children=st.integers(0, 1000),
    children_rss=st.integers(0, 2**45),
    lag_s=numbers,
    jobs=st.integers(0, 2**50),
    active=st.integers(0, 10_000),
    running=st.lists(jobs, max_size=MAX_RUNNING).map(tuple),
    extra=st.dictionaries(names, numbers | names, max_size=MAX_EXTRA),
)
beats = st.builds(Beat, st.booleans(), st.booleans(), st.lists(states, max_size=5).map(tuple), reports)


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


def reported(**fields: Any) -> Report:
    heard = read(json.dumps({"started": True, "ready": True, "states": [], "report": fields}).encode())
    assert heard is not None
    return heard.report


@pytest.mark.parametrize("report", [None, 7, "text", [], {}, {"pid": "x", "rss": None, "running": 7, "extra": [1]}])
def test_beat_without_a_report_that_makes_sense_is_still_a_beat(report: Any) -> None:
    heard = read(json.dumps({"started": True, "ready": True, "states": [], "report": report}).encode())
    assert heard == Beat(True, True, (), Report())


@pytest.mark.parametrize("number", [-1, math.inf, math.nan, 10**400, True, "5", None, [5]])
def test_what_is_no_number_of_things_counts_as_none(number: Any) -> None:
    report = reported(rss=number, jobs=number, lag_s=number)
    assert (report.rss, report.jobs, report.lag_s) == (0, 0, 0.0)


def test_lists_and_texts_of_a_report_are_cut() -> None:
    many = [{"queue": "q" * 500, "task_type": 7, "job_id": "j", "seconds": -1}, "nothing", *[{}] * 100]
    report = reported(running=many, extra={f"{n}" * 300: "v" * 500 for n in range(100, 200)})
    assert len(report.running) == MAX_RUNNING - 1  # one of the first was none
    assert len(report.running[0].queue) == MAX_TEXT
    assert (report.running[0].task_type, report.running[0].seconds) == ("", 0.0)
    assert len(report.extra) == MAX_EXTRA
    assert all(len(name) <= MAX_TEXT and len(str(value)) <= MAX_TEXT for name, value in report.extra.items())


def test_extra_values_are_texts_and_finite_numbers() -> None:
    said = {"a": 1, "b": -2.5, "c": "text", "d": None, "e": math.nan, "f": [1], "g": True, 7: "odd"}
    assert extra(said) == {"a": 1, "b": -2.5, "c": "text", "": "odd"}
    assert extra(None) == extra([1]) == {}


def test_fullest_report_fits_on_a_line() -> None:
    text = "\U0001f4a5" * MAX_TEXT  # twelve bytes each as JSON escapes
    running = tuple(RunningJob(text, text, text, 1.0) for _ in range(MAX_RUNNING))
    report = Report(pid=1, running=running[:7], extra={f"{n}": text for n in range(MAX_EXTRA)})
    assert len(Beat(True, True, (), report).line()) < MAX_LINE


def test_only_true_is_true() -> None:
    said = {"started": "yes", "ready": 1, "states": [{"name": 5, "ok": "ok", "detail": None}]}
    assert read(json.dumps(said).encode()) == Beat(False, False, (State("5", False, "None"),))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_reading_never_raises(line: bytes) -> None:
    assert read(line) is None


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    reader, writer = os.pipe()
    # Buffered, or a line is read byte by byte, and each byte waits for a GIL that a turning loop hardly lets go.
    with os.fdopen(reader, "rb") as ears, os.fdopen(writer, "wb", 0) as mouth:
        yield ears, mouth


async def test_sender_beats_until_the_other_end_is_closed(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0.001)
    ears, mouth = pipe
    ready = False
    states = (State("q", True, "d"),)
    sending = asyncio.create_task(beat.send(mouth.fileno(), lambda: Beat(True, ready, states)))
    assert read(await asyncio.to_thread(ears.readline)) == Beat(True, False, states)
    ready = True
    while read(await asyncio.to_thread(ears.readline)) != Beat(True, True, states):
        continue
    ears.close()
    await asyncio.wait_for(sending, 20)


async def test_sender_never_waits_for_a_supervisor_that_does_not_listen(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when that listens again, every line is whole: what the pipe took in part is completed first."""
    monkeypatch.setattr(beat, "BEAT_S", 0.001)
    ears, mouth = pipe
    turns, sent = 0, 0

    def said() -> Beat:
        nonlocal sent
        sent += 1
        return Beat(True, True, (State("q", True, f"{sent} " + "x" * 10_000),))

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    sending, counting = asyncio.create_task(beat.send(mouth.fileno(), said)), asyncio.create_task(count())
    await wait_until(lambda: sent > 5 and turns > 100)  # the pipe is full by now, and the loop turns
    heard = [read(await asyncio.to_thread(ears.readline)) for _ in range(20)]
    for task in (sending, counting):
        task.cancel()
    assert None not in heard
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_report_that_fails_is_logged_once_and_beats_go_on(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0.001)
    ears, mouth = pipe
    calls = 0

    def said() -> Beat:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise RuntimeError("no idea")
        return Beat(True, True, ())

    sending = asyncio.create_task(beat.send(mouth.fileno(), said))
    assert read(await asyncio.to_thread(ears.readline)) == Beat(True, True, ())
    assert len([record for record in caplog.records if "can't be told" in record.message]) == 1
    ears.close()
    await asyncio.wait_for(sending, 20)

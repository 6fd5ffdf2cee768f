from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from workers.broker.events import JobActive, JobCompleted, JobFailed, WorkerState
from workers.dev import board as board_module
from workers.dev.board import LiveBoard, PlainBoard, board_for


def failed(reason: str, job_id: str = "j1") -> JobFailed:
    return JobFailed(
        queue="email-send",
        job_id=job_id,
        job_name="n",
        task_type="email-send",
        attempt=1,
        duration_s=0.1,
        reason=reason,
        error="E",
    )


def terminal(height: int = 40) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=height, color_system="truecolor")


def drawn(board: LiveBoard, console: Console) -> str:
    with console.capture() as capture:
        console.print(board.frame())
    return capture.get()


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminal_gets_the_live_board_and_a_pipe_plain_lines() -> None:
    assert isinstance(board_for(terminal(), "Fleet"), LiveBoard)
    assert isinstance(board_for(Console(file=io.StringIO()), "Fleet"), PlainBoard)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(board_for(dumb, "Fleet"), PlainBoard)


def test_live_board_shows_facts_numbers_and_lines() -> None:
    console = terminal()
    board = LiveBoard(console, "Fleet here")
    board.fact("mails", lambda: "3 in /tmp/mails")
    board.hint("Ctrl-C drains and stops")
    board(WorkerState(queue="email-send", state="running", slots=5))
    board(failed("550 no such mailbox"))
    text = drawn(board, Console(file=io.StringIO(), width=120, height=40))
    for part in ("Fleet here", "mails", "3 in /tmp/mails", "email-send", "0/5", "j1 failed: 550 no such", "Ctrl-C"):
        assert part in text


def test_markup_and_escapes_of_strangers_are_shown_not_obeyed() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, height=40, color_system=None)
    board = LiveBoard(console, "Fleet")
    board(failed("[bold red]x[/] [link=http://evil]y[/link] \x1b[2J\x1b]0;title\x07 [/nonsense]", job_id="[b]id"))
    board.fact("mails", lambda: "\x1b[31m[red]9[/red]")
    text = drawn(board, console)
    assert "\x1b" not in text
    assert "\x07" not in text
    for part in ("[bold red]x[/]", "[/nonsense]", "[b]id", "[red]9[/red]"):
        assert part in text


@pytest.mark.parametrize("height", [5, 20, 60])
def test_frame_keeps_within_the_terminal_or_shows_at_least_three_lines(height: int) -> None:
    board = LiveBoard(terminal(height), "Fleet")
    for number in range(100):
        board.say(f"line {number}")
    lines = drawn(board, Console(file=io.StringIO(), width=120, height=height)).splitlines()
    assert "line 99" in "\n".join(lines)
    assert sum("line " in line for line in lines) >= 3
    assert height < 12 or len(lines) <= height


def test_fact_that_breaks_does_not_stop_the_drawing(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str:
        raise RuntimeError("no fact")

    board = LiveBoard(terminal(), "Fleet")
    board.fact("mails", broken)
    with caplog.at_level(logging.CRITICAL):
        assert "can't be drawn: RuntimeError" in drawn(board, terminal())


async def test_live_board_draws_starts_and_stops_twice() -> None:
    console = terminal()
    board = LiveBoard(console, "Fleet")
    await board.stop(by=time.monotonic() + 1)
    board = LiveBoard(console, "Fleet")
    await board.start()
    assert board.health().ok
    board.say("the last word")
    await board.stop(by=time.monotonic() + 5)
    await board.stop(by=time.monotonic() + 5)
    await board.wait()
    assert "the last word" in output(console)
    assert not board.health().ok


class PausedTerminal(io.StringIO):
    """Takes nothing until it is let go, as a terminal after Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.go_on.wait(20)
        return super().write(text)


@pytest.fixture
def paused() -> Iterator[PausedTerminal]:
    file = PausedTerminal()
    yield file
    file.go_on.set()


async def test_paused_pipe_holds_up_no_event_and_what_was_left_out_is_counted(
    paused: PausedTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "UNREAD_LINES", 10)
    board = PlainBoard(Console(file=paused), "Fleet")
    await board.start()
    for number in range(50):
        board(failed(f"reason {number}"))
    stopping_until = time.monotonic() + 0.1
    await board.stop(by=stopping_until)
    assert board.health().detail.startswith("plain, ")
    assert int(board.health().detail.split()[1]) >= 39


async def test_plain_board_writes_one_line_an_event_and_a_summary() -> None:
    console = Console(file=io.StringIO())
    board = PlainBoard(console, "Fleet here")
    await board.start()
    mails = ["0"]
    board.fact("mails", lambda: mails[0])
    started: Any = {"queue": "email-send", "job_id": "[b]j1", "job_name": "n", "task_type": "t", "attempt": 1}
    board(JobActive(**started, wait_s=0.0))
    board(JobCompleted(**started, duration_s=0.012, result=None))
    board(failed("550\r\nBcc: x"))
    mails[0] = "1"
    await board.stop(by=time.monotonic() + 5)
    await board.stop(by=time.monotonic() + 5)
    lines = output(console).splitlines()
    assert [line.split(" ", 1)[1] for line in lines[1:5]] == [
        "mails: 0",
        "email-send [b]j1 started",
        "email-send [b]j1 completed in 12 ms",
        r"email-send j1 failed: 550\r\nBcc: x",
    ]
    assert lines[0] == "Fleet here"
    assert lines[5:] == ["email-send: 1 completed, 0 retried, 1 failed", "mails: 1"]


async def test_plain_board_survives_a_reader_that_is_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    file = os.fdopen(write, "w", encoding="ascii")
    board = PlainBoard(Console(file=file), "Fleet")
    await board.start()
    for _ in range(3):
        board(failed("x"))
    await board.stop(by=time.monotonic() + 5)
    file.close()  # what is left in the buffer must not fail now, as it would at the interpreter's exit


async def test_plain_board_writes_what_the_encoding_lacks_as_question_marks() -> None:
    raw = io.BytesIO()
    board = PlainBoard(Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True)), "Fleet")
    await board.start()
    board(failed("félicitations"))
    await board.stop(by=time.monotonic() + 5)
    assert b"f?licitations" in raw.getvalue()

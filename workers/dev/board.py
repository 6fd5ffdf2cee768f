"""The board of `make run`: what happens to jobs, live on a terminal, one line an event elsewhere.

Both write from a thread of their own: a terminal that is paused or a pipe that nobody reads holds up no job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import IO, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workers.broker.events import Event
from workers.dev import PartHealth
from workers.dev.board_state import COLUMNS, BoardState, Line, Tone
from workers.telemetry.logs import visible

log = logging.getLogger(__name__)

FRAMES_PER_S = 4
FEWEST_LINES = 3
FRAME_LINES = 9  # title, column names, hint, the empty lines between, one that the terminal keeps
UNREAD_LINES = 10_000  # of a pipe that nobody reads; later ones are left out and counted

SIGNS: Mapping[Tone, tuple[str, str]] = {
    "start": ("▶", "cyan"),
    "good": ("✓", "green"),
    "wait": ("↻", "yellow"),
    "bad": ("✗", "red"),
    "note": ("·", "dim"),
}


class Board(Protocol):
    """Listens to events, shows them, and sums up at the end. A Service."""

    name: str
    """What logs call it."""

    def __call__(self, event: Event) -> None:
        """Show an event. Never blocks."""

    def say(self, text: str) -> None:
        """Show a line of our own. Never blocks."""

    def fact(self, label: str, value: Callable[[], str]) -> None:
        """Show a line at the head; `value` is asked for each frame."""

    def hint(self, text: str) -> None:
        """Show what the person may do now, if there is a place for it."""

    async def start(self) -> None:
        """Show it from now on."""

    async def wait(self) -> None:
        """Return after `stop`."""

    async def stop(self, *, by: float) -> None:
        """Sum up and let go of the terminal by `by` (monotonic seconds). Idempotent."""

    def health(self) -> PartHealth:
        """Whether it shows anything. No I/O."""


def board_for(console: Console, title: str) -> Board:
    """A live board on a terminal that can move its cursor, plain lines elsewhere."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveBoard(console, title)
    return PlainBoard(console, title)


class _Shown:
    """What both boards are made of.

    Args:
        console: where it is shown.
        title: the first line.
    """

    name = "board"

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._state = BoardState()
        self._facts: dict[str, Callable[[], str]] = {}
        self._stopped = asyncio.Event()

    async def wait(self) -> None:
        """Return after `stop`."""
        await self._stopped.wait()


class LiveBoard(_Shown):
    """Redraws itself in place. While it is up, nothing else may write to the terminal."""

    def __init__(self, console: Console, title: str) -> None:
        super().__init__(console, title)
        self._hint = ""
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __call__(self, event: Event) -> None:
        """See Board."""
        with self._lock:
            self._state.apply(event)

    def say(self, text: str) -> None:
        """See Board."""
        with self._lock:
            self._state.note(text)

    def fact(self, label: str, value: Callable[[], str]) -> None:
        """See Board."""
        with self._lock:
            self._facts[label] = value

    def hint(self, text: str) -> None:
        """See Board."""
        self._hint = text

    async def start(self) -> None:
        """Draw the first frame."""
        self._live = Live(
            get_renderable=self.frame,
            console=self._console,
            refresh_per_second=FRAMES_PER_S,
            redirect_stderr=False,
        )
        await asyncio.to_thread(self._live.start, True)

    async def stop(self, *, by: float) -> None:
        """Draw the last frame and leave it on the screen, at `by` (monotonic seconds) give up."""
        self._stopped.set()
        live, self._live = self._live, None
        self.hint("")
        if live is not None:
            # Left behind if need be: a paused terminal may never take the last frame.
            ending = threading.Thread(target=live.stop, name="board end", daemon=True)
            ending.start()
            await asyncio.to_thread(ending.join, max(0.0, by - time.monotonic()))

    def health(self) -> PartHealth:
        """Whether it is up."""
        return PartHealth(ok=self._live is not None, detail="live")

    def frame(self) -> RenderableType:
        """The whole board as of now."""
        try:
            with self._lock:
                rows, lines, facts = self._state.numbers(), tuple(self._state.lines), dict(self._facts)
            return render(self._title, facts, rows, lines, hint=self._hint, height=self._console.height)
        except Exception as error:  # the thread that draws would die of it
            log.exception("the board can't be drawn")
            return Text(f"the board can't be drawn: {type(error).__name__}")


def render(
    title: str,
    facts: Mapping[str, Callable[[], str]],
    rows: Sequence[Sequence[str]],
    lines: tuple[Line, ...],
    *,
    hint: str,
    height: int,
) -> RenderableType:
    """The board as it fits on `height` lines: head, queues, as many of the last lines as there is room for."""
    head = Table.grid(padding=(0, 2))
    for label, value in facts.items():
        head.add_row(Text(label, style="dim"), Text(visible(value()), overflow="fold"))
    numbers = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in COLUMNS:
        numbers.add_column(column, justify="left" if column == "queue" else "right")
    for row in rows:
        numbers.add_row(*(Text(cell) for cell in row))
    room = height - len(facts) - len(rows) - FRAME_LINES
    last = [_styled(line) for line in lines[-max(room, FEWEST_LINES) :]]
    parts: list[RenderableType] = [numbers, Group(*last), Text(hint, style="dim")]
    if facts:
        parts.insert(0, head)
    return Group(Text(title, style="bold"), *(one for part in parts for one in (Text(), part)))


def _styled(line: Line) -> Text:
    sign, style = SIGNS[line.tone]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{_clock(line.at)} ", style="dim")
    text.append(f"{sign} ", style=style)
    if line.queue:
        text.append(f"{line.queue} ", style="dim")
    return text.append(line.text, style=style if line.tone == "bad" else "")


def plain(line: Line) -> str:
    """A line without colours: time, queue, what happened."""
    return " ".join(part for part in (_clock(line.at), line.queue, line.text) if part)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S")


class PlainBoard(_Shown):
    """One line an event, and a summary at the end. A reader that is slower than events costs lines, which are
    counted.
    """

    def __init__(self, console: Console, title: str) -> None:
        super().__init__(console, title)
        self._unwritten: queue.Queue[str | None] = queue.Queue(UNREAD_LINES)
        self._left_out = 0
        self._writer: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        """See Board."""
        if line := self._state.apply(event):
            self._put(plain(line))

    def say(self, text: str) -> None:
        """See Board."""
        self._put(plain(self._state.note(text)))

    def fact(self, label: str, value: Callable[[], str]) -> None:
        """See Board."""
        self._facts[label] = value
        self.say(f"{label}: {value()}")

    def hint(self, text: str) -> None:
        """There is no place for it between lines that scroll away."""

    async def start(self) -> None:
        """Begin to write."""
        if self._writer is None:
            self._put(self._title)
            self._writer = threading.Thread(target=self._write, name="board", daemon=True)
            self._writer.start()

    async def stop(self, *, by: float) -> None:
        """Write the summary and what is unwritten, at `by` (monotonic seconds) give up."""
        writer, self._writer = self._writer, None
        self._stopped.set()
        if writer is None:
            return
        for name, row in self._state.rows.items():
            self._put(f"{name}: {row.completed} completed, {row.retried} retried, {row.failed} failed")
        for label, value in self._facts.items():
            self._put(visible(f"{label}: {value()}"))
        if self._left_out:
            self._put(f"{self._left_out} lines were left out: nobody read them")
        with contextlib.suppress(queue.Full):
            self._unwritten.put_nowait(None)
        await asyncio.to_thread(writer.join, max(0.0, by - time.monotonic()))

    def health(self) -> PartHealth:
        """Whether it writes."""
        return PartHealth(ok=self._writer is not None, detail=f"plain, {self._left_out} lines left out")

    def _put(self, text: str) -> None:
        try:
            self._unwritten.put_nowait(text)
        except queue.Full:
            self._left_out += 1

    def _write(self) -> None:
        out = self._console.file
        encoding = getattr(out, "encoding", None) or "utf-8"
        try:
            while (text := self._unwritten.get()) is not None:
                out.write(text.encode(encoding, "replace").decode(encoding) + "\n")
                if self._unwritten.empty():
                    out.flush()
            out.flush()
        except (OSError, ValueError):
            _discard(out)


def _discard(out: IO[str]) -> None:
    """The reader is gone: what is still in the buffer goes nowhere, or flushing it at exit would fail.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)

"""What a thread is doing, seen from another one: its innermost frames, and the context that they run in.

Frames are files, lines and functions, never the values of variables. Everything is read in one go while this thread
has the GIL, and no frame object is kept: that would keep its variables alive.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import gc
import sys
import threading
import traceback
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

Frame: TypeAlias = tuple[str, int, str]
"""File, line, function."""

#: Frames that a stack shows, the innermost, and characters of its text.
MAX_FRAMES, MAX_TEXT = 12, 4_000
#: Frames that are looked at; a deep recursion has more.
_MAX_WALK = 2_000
_HANDLE_RUN: CodeType = asyncio.Handle._run.__code__
_LOOP = str(Path(asyncio.__file__).parent)
_WATCHDOG = str(Path(__file__).with_name("watchdog.py"))
_OURS = (
    *(str(Path(__file__).parent.parent / folder) for folder in ("runtime", "broker")),
    threading.__file__,
    concurrent.futures.thread.__file__,
)


@dataclass(frozen=True, slots=True)
class Stack:
    """A thread's frames between the event loop and what it executes."""

    frames: tuple[Frame, ...]
    """The innermost last."""
    left_out: int = 0
    """Further frames, outside of these."""

    def text(self) -> str:
        """As in a traceback, at most MAX_TEXT characters. Reads source files."""
        summaries = [traceback.FrameSummary(file, line, name) for file, line, name in self.frames]
        head = f"  … {self.left_out} more\n" if self.left_out else ""
        text = head + "".join(traceback.StackSummary.from_list(summaries).format()).rstrip("\n")
        return text if len(text) <= MAX_TEXT else "…" + text[1 - MAX_TEXT :]


@dataclass(frozen=True, slots=True)
class Glance:
    """A look at an event loop's thread."""

    stack: Stack
    context: Context | None
    """That of the task or callback which the loop executes; None between two."""


def glance(loop: asyncio.AbstractEventLoop, thread: int) -> Glance:
    """Look at the loop that runs in this thread."""
    frame = sys._current_frames().get(thread)
    stack, context = _walk(frame)
    return Glance(stack, context if context is not None else _of_task(loop))


def of_thread(thread: int) -> Stack:
    """The frames of any thread; none where it has ended."""
    return of_frame(sys._current_frames().get(thread))


def of_frame(frame: FrameType | None) -> Stack:
    """This frame and those that called it."""
    return _walk(frame)[0]


def _walk(frame: FrameType | None) -> tuple[Stack, Context | None]:
    """Inwards from the loop's own frames, and the context in which it calls."""
    frames: list[Frame] = []
    context: Context | None = None
    depth = 0
    if frame is not None and frame.f_code.co_filename == _WATCHDOG:
        frame = frame.f_back  # its clock of the garbage collector
    while frame is not None and depth < _MAX_WALK:
        if frame.f_code is _HANDLE_RUN:
            context = frame.f_locals["self"]._context
            break
        if frame.f_code.co_filename.startswith(_LOOP) and frame.f_code.co_name in ("_run_once", "run"):
            break  # between two callbacks, or a loop in C whose handles have no frames
        if depth < MAX_FRAMES + 8:  # the outer ones may be ours
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        depth += 1
        frame = frame.f_back
    return _trimmed(frames[::-1], depth), context


def _trimmed(frames: list[Frame], depth: int) -> Stack:
    """Without the frames of the runtime through which a job's code was called, where they are the outermost."""
    unseen = depth - len(frames)
    if not unseen:
        ours = 0
        while ours < len(frames) - 1 and frames[ours][0].startswith(_OURS):
            ours += 1
        frames = frames[ours:]
    shown = frames[-MAX_FRAMES:]
    return Stack(tuple(shown), unseen + len(frames) - len(shown))


def _of_task(loop: asyncio.AbstractEventLoop) -> Context | None:
    """The context of the current task of a loop whose handles can't be seen (uvloop)."""
    task: asyncio.Task[Any] | None = asyncio.current_task(loop)
    if task is None:
        return None
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Python 3.11 has no other way to a task's context; it comes before that of whoever awaits the task
    return next((found for found in gc.get_referents(task) if isinstance(found, Context)), None)

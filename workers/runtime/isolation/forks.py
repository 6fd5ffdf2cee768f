"""Forks in a process that runs jobs: the copy may exec or exit, but never becomes a second worker.

A processor that forks makes a copy of everything: the event loop with what is ready in it, the connections, the
renewal of locks. The copy may do what it was forked for (multiprocessing does, and ends by itself). Where it instead
returns from the processor, or waits for the loop, the first thing that happens is its end; and whatever it does before,
it has none of the loop's sockets, and an epoll of its own, since the kernel would share the original's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from types import CodeType

#: The exit code of a copy that did neither (sysexits.h, EX_SOFTWARE).
EXIT_COPY = 70
#: Between two looks at what a thread does that was copied, seconds.
LOOK_S = 0.05

_at_fork = threading.local()
_installed = False
_copied = False


def install() -> None:
    """From now on, copies of this process end instead of returning into its loop or its threads. Idempotent."""
    global _installed
    if not _installed and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_child=_after_in_copy)
        _installed = True


def end_copy() -> None:
    """Where a processor has returned, or asks its host: end the process if it is a copy."""
    if _copied:
        os._exit(EXIT_COPY)


_IDLE: CodeType = concurrent.futures.thread._worker.__code__


def _before() -> None:
    try:
        _at_fork.loop = asyncio.get_running_loop()
    except RuntimeError:
        _at_fork.loop = None
    _at_fork.in_main = threading.current_thread() is threading.main_thread()


def _after_in_copy() -> None:
    global _copied
    _copied = True
    _cut_off()
    loop: asyncio.AbstractEventLoop | None = getattr(_at_fork, "loop", None)
    if loop is None:
        if not _at_fork.in_main:
            threading.Thread(target=_mind, args=(threading.get_ident(),), daemon=True).start()
        return
    ready = getattr(loop, "_ready", None)
    if isinstance(ready, deque):  # asyncio's own loop: other jobs' steps, which the original takes
        ready.clear()
    loop.call_soon(os._exit, EXIT_COPY)


def _mind(thread: int) -> None:
    """End the copy once the thread that was copied has nothing more to do: that of an executor (`asyncio.to_thread`)
    would wait for its next work for ever.
    """
    while (frame := sys._current_frames().get(thread)) is not None and frame.f_code is not _IDLE:
        del frame  # or its variables would live longer
        time.sleep(LOOK_S)
    os._exit(EXIT_COPY)


def _cut_off() -> None:
    """Replace what belongs to event loops: non-blocking sockets that no program is to inherit, and epolls.

    In their place is a socket that takes what is written and never answers, so that whoever asks by it waits, which is
    the end of the copy. Sockets of multiprocessing block, and are left alone.
    """
    mute: socket.socket | None = None
    for fd in _descriptors():
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]":
                with select.epoll() as empty:
                    os.dup2(empty.fileno(), fd, inheritable=False)
            elif stat.S_ISSOCK(os.fstat(fd).st_mode) and not os.get_blocking(fd) and not os.get_inheritable(fd):
                mute = mute or _mute()
                os.dup2(mute.fileno(), fd, inheritable=False)
        except OSError:
            continue  # gone meanwhile, or no descriptors are left


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # not Linux
        return []


def _mute() -> socket.socket:
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.detach()  # stays open, and is never read
    return ours

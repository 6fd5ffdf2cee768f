"""The processes that a process has made, as Linux tells them; elsewhere none are known."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

#: prctl(2).
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
#: How long killed processes may take to be gone, seconds, and between two looks.
GONE_S, LOOK_S = 0.5, 0.005
#: Rounds of looking for what is left: who forks while it is killed is met again.
ROUNDS = 5


def adopt(wanted: bool) -> bool:
    """Whether orphans below this process become its children, and not the system's; returns whether they did before.
    Linux; elsewhere they don't.
    """
    if sys.platform != "linux":
        return False
    before = ctypes.c_int(0)
    with suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
    return bool(before.value)


def children(pid: int) -> set[int]:
    """The direct children, those that have ended and were not waited for included."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found.update(map(int, file.read().split()))
    return found


def descendants(pid: int) -> Iterator[int]:
    """All below it, the nearest first. One that was orphaned is still below where somebody adopts orphans (Orphans)."""
    todo = [pid]
    while todo:
        below = children(todo.pop())
        yield from below
        todo.extend(below)


def kill(pid: int) -> None:
    """SIGKILL to a process that leads a group, to its group, and to what it has made outside of it."""
    family = list(descendants(pid))
    for send, number in ((os.killpg, pid), *((os.kill, each) for each in family)):
        with suppress(OSError):  # gone already
            send(number, signal.SIGKILL)


def kill_all(pid: int) -> None:
    """SIGKILL to it and to all below it."""
    for each in (*descendants(pid), pid):
        with suppress(OSError):  # gone already
            os.kill(each, signal.SIGKILL)


class Leftovers:
    """What jobs leave behind in the process that runs them, one at a time. Made when the module is open: what it has
    started for itself stays.
    """

    def __init__(self) -> None:
        self._known = children(os.getpid())
        self._ended: set[int] = set()

    def end(self) -> int:
        """Kill what was started since and still runs; how many that were."""
        if not _any():
            return 0
        killed: set[int] = set()
        for _ in range(ROUNDS):
            strays = {pid for pid in self._strays() if not has_ended(pid)}
            if not strays - killed:
                break
            for pid in strays:
                kill_all(pid)
            killed |= strays
        for pid in killed:
            reap(pid, GONE_S)
        self._reap_forgotten()
        return len(killed)

    def _strays(self) -> set[int]:
        self._known |= _of_multiprocessing()
        return children(os.getpid()) - self._known

    def _reap_forgotten(self) -> None:
        """Those that have ended and that nobody has waited for by the end of the next job."""
        ended = {pid for pid in self._strays() if has_ended(pid)}
        for pid in ended & self._ended:
            reap(pid, 0.0)
        self._ended = ended


def _any() -> bool:
    """Whether this process has children at all; one system call."""
    if sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def has_ended(pid: int) -> bool:
    """Whether it is gone, or was not waited for yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def reap(pid: int, timeout_s: float) -> None:
    """Wait for the end of a child; nothing where somebody else has."""
    end = time.monotonic() + timeout_s
    with suppress(OSError):  # somebody else has waited for it
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < end:
            time.sleep(LOOK_S)


def _of_multiprocessing() -> set[int]:
    """Its two servants, which it starts with the first job that needs them and wants to keep."""
    servants = (("resource_tracker", "_resource_tracker", "_pid"), ("forkserver", "_forkserver", "_forkserver_pid"))
    pids = (
        getattr(getattr(sys.modules.get(f"multiprocessing.{module}"), name, None), attribute, None)
        for module, name, attribute in servants
    )
    return {pid for pid in pids if isinstance(pid, int)}

"""Ends what the processes of a supervisor leave behind when they end: all that their jobs have started. A Service.

Linux; elsewhere nothing is adopted, and so nothing ended.

A process whose parents have all died becomes the supervisor's child, not the system's (prctl(2),
PR_SET_CHILD_SUBREAPER). Whose it was is told by its environment, in which each process of a pool and all that it starts
bear a mark, or by its session. What has neither is left alone: the supervisor's own program may have started it, such
as the servers of `fleet dev`. So is what a living process has orphaned, until that one ends.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workers.runtime.isolation import family

log = logging.getLogger(__name__)

#: The variable that bears the mark.
MARK = "FLEET_PROCESS"
#: Between two looks, seconds: usually, and for SETTLE_S after a process has ended, since some that it leaves behind
#: are killed by the kernel first, and leave theirs to us a moment later.
LOOK_S, SOON_S, SETTLE_S = 1.0, 0.05, 2.0
#: After how long an ended child that nobody waits for is one that was adopted, seconds.
UNCLAIMED_S = 5.0
#: How long `stop` looks on while something is left, seconds.
STOP_S = 2.0

_OWN = secrets.token_hex(8)
_numbers = itertools.count(1)
_adopting: set[Orphans] = set()
_before: list[bool] = []


def new_mark() -> str:
    """For one process of a pool; no other has it."""
    return f"{_OWN}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class AdoptionHealth:
    """The answer of `Orphans.health`."""

    ok: bool
    detail: str


class Orphans:
    """Adopts and ends them.

    Args:
        living: the ids of the supervisor's own processes; 0 for one that is being started.
    """

    name = "orphans"

    def __init__(self, living: Callable[[], Collection[int]]) -> None:
        self._living = living
        self._marks: set[str] = set()
        """Of processes that have ended."""
        self._sessions: dict[int, float] = {}
        """That ended processes led, and until when they are looked for: their numbers may be given again."""
        self._adopted: set[int] = set()
        self._unclaimed: dict[int, float] = {}
        self._killed: set[int] = set()
        self._soon_until = 0.0
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Adopt from now on; nothing where the system knows no adoption."""
        if sys.platform == "linux" and self._task is None:
            _adopt(self)
            self._task = asyncio.create_task(self._mind(), name="orphans")

    async def wait(self) -> None:
        """Return after `stop`."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def stop(self, *, by: float) -> None:
        """End what is left, until `by` (monotonic seconds) or STOP_S at most; then adopt no more. Idempotent."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        end = min(by, time.monotonic() + STOP_S)
        while self._look() and time.monotonic() < end:  # noqa: ASYNC110 - the end of a process is no event here
            await asyncio.sleep(SOON_S)
        _adopt_no_more(self)

    def health(self) -> AdoptionHealth:
        """How many it has adopted that still run. No I/O."""
        return AdoptionHealth(True, f"{len(self._adopted)} adopted processes")

    def ended(self, pid: int, mark: str) -> None:
        """This process of the supervisor's has ended: what it has made is to end too."""
        self._marks.add(mark)
        self._soon_until = time.monotonic() + SETTLE_S
        self._sessions[pid] = self._soon_until
        self._ended.set()

    async def _mind(self) -> None:
        while True:
            self._ended.clear()
            try:
                self._look()
            except Exception:
                log.exception("what ended processes have left behind could not be ended")
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON_S if time.monotonic() < self._soon_until else LOOK_S):
                    await self._ended.wait()

    def _look(self) -> bool:
        """Kill what an ended process has left, and reap what was adopted; whether some of it may be left still."""
        living = frozenset(self._living())
        if 0 in living:  # one of our children is not known yet
            return True
        found = family.children(os.getpid()).difference(living)
        self._adopted &= found
        self._killed &= found
        now = time.monotonic()
        self._sessions = {pid: until for pid, until in self._sessions.items() if now < until}
        dead = {pid for pid in found if family.has_ended(pid)}
        self._reap(dead, now)
        left = {pid for pid in found - dead if self._is_left(pid, living)}
        for pid in left:
            family.kill_all(pid)
        if left - self._killed:
            log.warning("killed %d processes that one of ours had left behind", len(left - self._killed))
        self._killed |= left
        return bool(left) or not all(map(_environment, found - dead))  # without any it is about to end

    def _reap(self, dead: Set[int], now: float) -> None:
        self._unclaimed = {pid: self._unclaimed.get(pid, now) for pid in dead}
        for pid, since in self._unclaimed.items():
            if pid in self._adopted or now - since >= UNCLAIMED_S:
                family.reap(pid, 0.0)

    def _is_left(self, pid: int, living: Collection[int]) -> bool:
        mark, session = _mark(pid), _session(pid)
        if mark.startswith(_OWN) or session in living or session in self._sessions:
            self._adopted.add(pid)
        return mark in self._marks or (not mark and session in self._sessions)


def _adopt(who: Orphans) -> None:
    if not _adopting:
        _before.append(family.adopt(True))
    _adopting.add(who)


def _adopt_no_more(who: Orphans) -> None:
    """As it was before, once nobody in this process wants it."""
    _adopting.discard(who)
    if not _adopting and _before:
        family.adopt(_before.pop())


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _mark(pid: int) -> str:
    name = MARK.encode() + b"="
    for variable in _environment(pid).split(b"\0"):
        if variable.startswith(name):
            return variable[len(name) :].decode(errors="replace")
    return ""


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1

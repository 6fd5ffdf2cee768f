"""Which process is replaced by a fresh one, and when. Pure.

A successor starts first; when it takes jobs, the old process drains. One process of a pool at a time is replaced, so
that a pool is never all new, nor twice as large. A process is not replaced within its first seconds, whatever it needs.
One that has outgrown its memory limit by then shows that the limit is too small, since its successor will do the same:
how long a process must live doubles with each such one, unless it grows on and on. Runs left behind are no such case:
they end with their process, so its successor is free of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: How long a process lives before it is replaced, seconds; and the longest that this grows to where the limit is too
#: small.
LIFE_S, LIFE_MAX_S = 10.0, 600.0
#: A process that was over its limit from the beginning, and now has so many times as much, leaks.
GROWN = 1.5
#: The wait after a successor that did not start, seconds: the first and the longest.
RETRY_FIRST_S, RETRY_MAX_S = 30.0, 600.0
#: How long a successor may take to start, seconds; after that it is given up and the old process goes on.
START_S = 60.0

#: Runs left behind of which a process is not replaced yet. Each costs a thread, or turns of the loop, and its memory,
#: and may do its job's work beside the next run of it. So it is a few: as many as a burst of calls that hang for a
#: while and then do end may leave, since a fresh process has to import and connect anew.
MAX_LEFT_BEHIND = 4

Reason: TypeAlias = Literal["config", "memory", "left_behind", "jobs"]
#: The most urgent first.
_URGENCY: tuple[Reason, ...] = ("config", "memory", "left_behind", "jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process may reach. None: no limit."""

    memory: int | None = None
    """Resident bytes of the process itself, its children not included: those have limits of their own."""
    max_jobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A process that works, as far as the choice needs it."""

    name: str
    limits: Limits
    age_s: float
    """Since it started to take jobs."""
    rss: int = 0
    settled: int = 0
    """What `rss` was when it had lived for LIFE_S; 0 until then."""
    jobs: int = 0
    """Runs of jobs that have ended in it."""
    left_behind: int = 0
    """Runs that go on in it although their jobs are over."""
    stale: bool = False
    """It works by a configuration that is no longer in force."""
    soon: int = 0
    """How many processes in a row, before this one, were over their memory limit from the beginning."""
    retry_in_s: float = 0.0
    """Left of the wait after a successor that did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """The process to replace."""

    name: str
    reason: Reason
    detail: str
    """Why, in words."""
    soon: bool = False
    """It was over its memory from the beginning: the limit is too small."""


def life_s(soon: int) -> float:
    """How long a process must live that is over its memory limit from the beginning."""
    return float(min(LIFE_MAX_S, LIFE_S * 2.0 ** min(max(soon, 0), 16)))


def retry_s(failures: int) -> float:
    """The wait after so many successors in a row that did not start."""
    return float(min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(max(failures - 1, 0), 16)))


def choose(pool: str, candidates: Iterable[Candidate]) -> Recycle | None:
    """Of one pool in which none is being replaced, the process to replace now; the most urgent one."""
    found = [recycle for each in candidates if each.retry_in_s <= 0 and (recycle := due(pool, each)) is not None]
    return min(found, key=lambda recycle: _URGENCY.index(recycle.reason), default=None)


def due(pool: str, process: Candidate) -> Recycle | None:
    """Whether this process is to be replaced."""
    if process.stale:
        return Recycle(name=process.name, reason="config", detail="its configuration has changed")
    if process.age_s < LIFE_S:
        return None
    limit, most = process.limits.memory, process.limits.max_jobs
    if limit is not None and process.rss >= limit:
        soon = process.settled >= limit and process.rss < GROWN * process.settled
        if not soon or process.age_s >= life_s(process.soon):
            detail = f"{megabytes(process.rss)} resident, pools.{pool}.memory is {megabytes(limit)}"
            return Recycle(name=process.name, reason="memory", detail=detail, soon=soon)
    if process.left_behind > MAX_LEFT_BEHIND:
        detail = f"{process.left_behind} runs go on although their jobs are over, more than {MAX_LEFT_BEHIND}"
        return Recycle(name=process.name, reason="left_behind", detail=detail)
    if most is not None and process.jobs >= most:
        detail = f"{process.jobs} jobs done, pools.{pool}.max_jobs is {most}"
        return Recycle(name=process.name, reason="jobs", detail=detail)
    return None


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1024**2:.0f}MB"

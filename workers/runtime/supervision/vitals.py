"""How this process is, for its supervisor and for people: a listener that knows the running jobs, and readings."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import psutil

from workers.broker.events import (
    Event,
    JobActive,
    JobCompleted,
    JobDelayed,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
)
from workers.broker.numbers import is_number, whole
from workers.runtime.isolation.left_behind import counts as runs_left_behind
from workers.runtime.supervision.beat import MAX_RUNNING, Report, RunningJob, extra, short

_ENDS = (JobCompleted, JobFailed, JobRetrying, JobDelayed, JobHandedBack, JobLost)

#: Between two looks at the children, seconds: the whole system's processes are gone through for it.
CHILDREN_EVERY_S = 5.0

#: In `Report.extra`: how many runs are left behind, where there are any (`isolation/left_behind.py`).
LEFT_BEHIND = "runs_left_behind"

More: TypeAlias = Callable[[], Mapping[str, float | str]]


class Vitals:
    """Listens to the events of one process and reports how it is.

    Args:
        lag: the worst lag of the event loop lately, seconds. Defaults to unknown, 0.
        clock: monotonic seconds.
    """

    def __init__(self, lag: Callable[[], float] = lambda: 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lag = lag
        self._clock = clock
        self._born = clock()
        self._running: dict[tuple[str, str], RunningJob] = {}
        self._ended = 0
        self._more: list[More] = []
        self._process = psutil.Process()
        self._children: tuple[int, int] = (0, 0)
        self._looked_at = float("-inf")

    def __call__(self, event: Event) -> None:
        match event:
            case JobActive():
                # `seconds` is when it was taken, until it is reported
                job = RunningJob(event.queue, event.task_type, event.job_id, self._clock())
                self._running[event.queue, event.job_id] = job
            case _ if isinstance(event, _ENDS):
                self._ended += 1
                self._running.pop((event.queue, event.job_id), None)

    def add(self, more: More) -> None:
        """Ask this too for each report. What it answers is bounded; it must neither block nor raise."""
        self._more.append(more)

    def report(self) -> Report:
        """As of now. A few system calls; with children now and then some milliseconds."""
        now = self._clock()
        longest = heapq.nsmallest(MAX_RUNNING, tuple(self._running.values()), key=lambda job: job.seconds)
        children, children_rss = self._look_at_children(now)
        left = sum(runs_left_behind().values())
        said: dict[str, Any] = {LEFT_BEHIND: left} if left else {}
        for more in self._more:
            said |= more()
        return Report(
            pid=os.getpid(),
            uptime_s=round(now - self._born, 3),
            rss=self._process.memory_info().rss,
            children=children,
            children_rss=children_rss,
            lag_s=round(self._lag(), 4),
            jobs=self._ended,
            active=len(self._running),
            running=tuple(_named(job, now) for job in longest),
            extra=extra(said),
        )

    def _look_at_children(self, now: float) -> tuple[int, int]:
        """How many there are, with their own ones, and their resident bytes together."""
        if not _has_children():
            return 0, 0
        if now - self._looked_at >= CHILDREN_EVERY_S:
            self._looked_at = now
            sizes = [_rss(child) for child in self._process.children(recursive=True)]
            self._children = len(sizes), sum(sizes)
        return self._children


def left_behind(report: Report) -> int:
    """How many runs that process has left behind."""
    said = report.extra.get(LEFT_BEHIND, 0)
    return max(0, whole(said)) if is_number(said) else 0


def _named(job: RunningJob, now: float) -> RunningJob:
    names = {name: short(getattr(job, name)) for name in ("queue", "task_type", "job_id")}
    return replace(job, **names, seconds=round(now - job.seconds, 3))


def _has_children() -> bool:
    """Whether there is any, at the price of one system call."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except OSError:
        return True
    return True


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0

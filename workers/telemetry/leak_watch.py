"""Watches what jobs leave in memory: counts them by type, reads the process's size, and says who leaks.

Two measures that differ in kind. Scope `job`: jobs that ran in a process of their own bring their exact numbers.
Scope `process`: all others share one process, so theirs is an estimate from its size and from how many of each type
ended meanwhile (runtime/leak.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Literal, TypeAlias

from workers.broker.events import (
    Event,
    JobActive,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
)
from workers.runtime.leak import MAX_WINDOWS, PER, Run, Window, slope_of_runs, slopes

log = logging.getLogger(__name__)

Scope: TypeAlias = Literal["job", "process"]

#: A window ends with so many jobs, or after so long with at least one, seconds; never before WINDOW_MIN_S.
WINDOW_JOBS, WINDOW_S, WINDOW_MIN_S = 300, 30.0, 1.0
#: The first windows are left out: their jobs load libraries, open connections and fill caches.
WARM_UP = 3
#: Between two estimates, seconds.
ESTIMATE_EVERY_S = 10.0
#: Runs of each isolated type that are remembered, and types.
MAX_RUNS, MAX_TYPES = 400, 100
#: Bytes per 1,000 jobs from which a leak is worth a warning, and how many estimates in a row have to say so.
LEAK, SURE = 10 * 1024 * 1024, 3
_ENDS = frozenset({JobCompleted, JobFailed, JobRetrying, JobDelayed, JobHandedBack, JobLost})


class LeakWatch:
    """A listener; `look` is called about once a second, on the same loop.

    Args:
        resident: reads the resident memory of this process in bytes; None where it can't be read.
        on_resident: told it.
        on_slope: told the task type, the scope and the bytes that 1,000 of its jobs leave behind; 0: none.
        clock: monotonic seconds. Defaults to `time.monotonic`.
    """

    def __init__(
        self,
        resident: Callable[[], int | None],
        on_resident: Callable[[int], None],
        on_slope: Callable[[str, Scope, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resident = resident
        self._on_resident = on_resident
        self._on_slope = on_slope
        self._clock = clock
        self._active = 0
        self._busy = False
        self._jobs: Counter[str] = Counter()
        self._windows: deque[Window] = deque(maxlen=MAX_WINDOWS)
        self._runs: dict[str, deque[Run]] = defaultdict(lambda: deque(maxlen=MAX_RUNS))
        self._opened_at: float | None = None
        self._estimated_at = float("-inf")
        self._last: int | None = None
        self._grown_idle = 0
        self._to_skip = WARM_UP
        self._fresh = False
        self._found: dict[tuple[str, Scope], float] = {}
        self._sure: Counter[tuple[str, Scope]] = Counter()
        self._said: dict[tuple[str, Scope], float] = {}

    def __call__(self, event: Event) -> None:
        kind = type(event)
        if kind is JobActive:
            self._active += 1
            self._busy = True
        elif kind in _ENDS:
            assert isinstance(event, JobEvent)  # noqa: S101 - all of _ENDS are
            self._active -= self._active > 0
            if event.memory is None:
                self._jobs[event.task_type] += 1
            elif event.task_type in self._runs or len(self._runs) < MAX_TYPES:
                self._runs[event.task_type].append(Run(event.memory.before, event.memory.delta))
                self._fresh = True

    def look(self) -> None:
        """Read the memory and estimate, where it is time. Some 50 µs once a second, a few ms every ten."""
        now = self._clock()
        if self._opened_at is not None and not self._is_full(now - self._opened_at):
            return
        self._opened_at = now
        resident = self._resident()
        if resident is not None:
            self._on_resident(resident)
            self._close(resident)
        if self._fresh and now - self._estimated_at >= ESTIMATE_EVERY_S:
            self._estimated_at, self._fresh = now, False
            self._estimate()

    def numbers(self) -> dict[str, float | str]:
        """What a supervisor is told: the type that leaks most, and bytes per 1,000 jobs of it."""
        worst = max(self._found, key=lambda each: self._found[each], default=None)
        if worst is None or self._found[worst] <= 0:
            return {}
        return {"rss_slope_type": worst[0], "rss_slope_bytes": round(self._found[worst]), "rss_slope_scope": worst[1]}

    # ------------------------------------------------------------------ one window

    def _is_full(self, age_s: float) -> bool:
        return age_s >= WINDOW_S or (age_s >= WINDOW_MIN_S and self._jobs.total() >= WINDOW_JOBS)

    def _close(self, resident: int) -> None:
        """End a window; what the process grew by while no job ran is no job's."""
        if not self._busy and self._last is not None:
            self._grown_idle += resident - self._last
        self._last, self._busy = resident, self._active > 0
        if not self._jobs:
            return
        jobs, self._jobs = dict(self._jobs), Counter()
        if self._to_skip:
            self._to_skip -= 1
            return
        self._windows.append(Window(resident - self._grown_idle, jobs))
        self._fresh = True

    # ----------------------------------------------------------------- the estimate

    def _estimate(self) -> None:
        found: dict[tuple[str, Scope], float] = dict.fromkeys(self._found, 0.0)
        shared = slopes(tuple(self._windows))
        if shared is not None:
            found |= {(task_type, "process"): 0.0 for window in self._windows for task_type in window.jobs}
            found |= {(task_type, "process"): slope for task_type, slope in shared.items()}
        for task_type, runs in self._runs.items():
            own = slope_of_runs(tuple(runs))
            if own is not None:
                found[task_type, "job"] = own
        self._found = found
        for (task_type, scope), slope in found.items():
            self._on_slope(task_type, scope, slope)
            self._warn(task_type, scope, slope)

    def _warn(self, task_type: str, scope: Scope, slope: float) -> None:
        """Once a leak is sure, and again when it has doubled."""
        key = task_type, scope
        self._sure[key] = self._sure[key] + 1 if slope >= LEAK else 0
        if self._sure[key] < SURE or slope < 2 * self._said.get(key, 0.0):
            return
        self._said[key] = slope
        how = "in their own processes" if scope == "job" else "in this process, by its size"
        log.warning(
            "jobs of type %s leave %.1f MB behind per %d %s: look for a leak; until then pools.….memory or "
            "pools.….max_jobs replaces a process before it is too large",
            task_type,
            slope / 1024**2,
            PER,
            how,
        )

"""How much memory jobs leave behind, by task type, estimated from the memory of the process that ran them. Pure.

Memory that comes back is no leak, so the level counted at any moment is the least that the process had from then on
(its floor). Growth that stops is none either (a cache that is full, an allocator that has its arenas): what is
reported has to go on through every quarter of the windows. And a type is named only where its share of the jobs
explains the growth; where several types always come together, nobody can tell which it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

#: Windows that an estimate needs; more than MAX_WINDOWS are no use, because what is old says little about now.
MIN_WINDOWS, MAX_WINDOWS = 24, 48
#: Growth over all windows below which nothing is said, bytes: allocators take memory in pieces of about this size.
MIN_GROWTH = 4 * 1024 * 1024
#: A type that ran fewer of the jobs than this share is left out, and so are the rarest of more than MAX_TYPES types.
MIN_SHARE, MAX_TYPES = 0.02, 8
#: A type is named if its slope is so many standard errors above zero, and stands for at least this share of the growth.
CERTAIN, BLAME = 3.0, 0.2
#: How much worse, in squares, the levels must be explained with any other type in the place of a named one.
CLEARER = 2.0
#: In each quarter the growth must be at least this share of what the slope says.
STEADY = 0.5
#: Stands for the task type where types can't be told apart.
SEVERAL = "several"
#: Runs of isolated jobs that an estimate needs, and the share of the largest growths that are left out of it.
MIN_RUNS, LARGEST = 100, 0.05
PER = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in which jobs ended."""

    resident: int
    """Resident memory of the process at its end, bytes."""
    jobs: Mapping[str, int]
    """How many ended in it, by task type."""


@dataclass(frozen=True, slots=True)
class Run:
    """One job that a process ran with nothing beside it, bytes."""

    before: int
    delta: int


def slopes(windows: Sequence[Window]) -> dict[str, float] | None:
    """Bytes that 1,000 jobs of a type leave in the process, for the types that leave any; None: too few windows.

    The first window is the base: only what came after it counts. SEVERAL stands for types that can't be told apart.
    """
    if len(windows) < MIN_WINDOWS:
        return None
    floor = _floor([window.resident for window in windows])
    done = _done(windows)
    total = [float(sum(counts)) for counts in zip(*done.values(), strict=True)] if done else []
    if floor[-1] - floor[0] < MIN_GROWTH or not total or total[-1] <= 0:
        return {}
    named = _named(floor, done)
    if named:
        return named
    fit = _fit(floor, [total])
    if fit is None or fit.slopes[0] < CERTAIN * fit.errors[0] or not _steady(floor, total, fit.slopes[0]):
        return {}
    return {next(iter(done)) if len(done) == 1 else SEVERAL: fit.slopes[0] * PER}


def slope_of_runs(runs: Sequence[Run]) -> float | None:
    """Bytes that 1,000 isolated jobs of one type leave in their process; None: too few runs.

    Counted are the jobs that found more memory in use than half of the jobs did: their processes have filled their
    caches. Of these the largest growths are left out, and what is uncertain counts as zero.
    """
    if len(runs) < MIN_RUNS:
        return None
    middle = sorted(run.before for run in runs)[len(runs) // 2]
    deltas = sorted(run.delta for run in runs if run.before >= middle)
    kept = deltas[: max(1, math.ceil(len(deltas) * (1 - LARGEST)))]
    mean = sum(kept) / len(kept)
    error = math.sqrt(sum((delta - mean) ** 2 for delta in kept)) / len(kept)
    return mean * PER if mean > CERTAIN * error else 0.0


# ---------------------------------------------------------------------- the windows


def _floor(levels: Sequence[int]) -> list[float]:
    """The least level from each window on."""
    return [float(level) for level in accumulate(reversed(levels), min)][::-1]


def _done(windows: Sequence[Window]) -> dict[str, list[float]]:
    """Jobs ended since the first window, by type, the most frequent type first."""
    counts: dict[str, int] = {}
    for window in windows[1:]:
        for task_type, number in window.jobs.items():
            counts[task_type] = counts.get(task_type, 0) + number
    least = MIN_SHARE * sum(counts.values())
    types = sorted((name for name, number in counts.items() if number >= max(1.0, least)), key=lambda n: -counts[n])
    return {
        name: list(accumulate((float(window.jobs.get(name, 0)) for window in windows[1:]), initial=0.0))
        for name in types[:MAX_TYPES]
    }


def _named(floor: Sequence[float], done: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The types whose jobs explain the growth."""
    names = _rising(floor, done)
    fit = _fit(floor, [done[name] for name in names])
    if fit is None:
        return {}
    slopes = dict(zip(names, fit.slopes, strict=True))
    growth = sum(slope * done[name][-1] for name, slope in slopes.items())
    found: dict[str, float] = {}
    for (name, slope), error in zip(slopes.items(), fit.errors, strict=True):
        others = [sum(slopes[o] * done[o][i] for o in names if o != name) for i in range(len(floor))]
        own = [level - other for level, other in zip(floor, others, strict=True)]
        certain = slope > CERTAIN * error and slope * done[name][-1] >= BLAME * growth
        if certain and _steady(own, done[name], slope) and _clear(floor, done, names, name, fit.squares):
            found[name] = slope * PER
    return found


def _rising(floor: Sequence[float], done: Mapping[str, Sequence[float]]) -> list[str]:
    """The types without those that, fitted together, would give memory back; none where they can't be told apart."""
    names = list(done)
    while names:
        fit = _fit(floor, [done[name] for name in names])
        if fit is None:
            return []
        least = min(range(len(names)), key=lambda i: fit.slopes[i])
        if fit.slopes[least] > 0:
            return names
        names.pop(least)
    return []


def _clear(
    floor: Sequence[float], done: Mapping[str, Sequence[float]], names: Sequence[str], name: str, squares: float
) -> bool:
    """Whether no type that was left out would do in the place of this one."""
    for other in done.keys() - set(names):
        instead = _fit(floor, [done[other if each == name else each] for each in names])
        if instead is None or instead.squares < CLEARER * squares:
            return False
    return True


def _steady(levels: Sequence[float], done: Sequence[float], slope: float) -> bool:
    """Whether the levels rise with the jobs in each quarter of these, and not only in some."""
    marks = [min(i for i, jobs in enumerate(done) if jobs >= done[-1] * quarter / 4) for quarter in range(5)]
    smooth = [sum(near) / len(near) for near in (levels[max(0, mark - 1) : mark + 2] for mark in marks)]
    ends = [sum(near) / len(near) for near in (done[max(0, mark - 1) : mark + 2] for mark in marks)]
    return all(smooth[i + 1] - smooth[i] >= STEADY * slope * (ends[i + 1] - ends[i]) > 0 for i in range(len(marks) - 1))


# ---------------------------------------------------------------------- least squares


@dataclass(frozen=True, slots=True)
class _Fit:
    slopes: list[float]
    errors: list[float]
    """Standard errors, widened where one residual resembles the next."""
    squares: float
    """The sum of the squared residuals."""


def _fit(levels: Sequence[float], columns: Sequence[Sequence[float]]) -> _Fit | None:
    """Least squares of the levels on the columns and a constant; None where the columns depend on each other."""
    n, k = len(levels), len(columns)
    centred = [_centred(column) for column in columns]
    y = _centred(levels)
    inverse = _inverse([[_dot(a, b) for b in centred] for a in centred])
    if not inverse or n <= k + 1:
        return None
    moments = [_dot(column, y) for column in centred]
    slopes = [_dot(row, moments) for row in inverse]
    rest = [y[i] - sum(s * column[i] for s, column in zip(slopes, centred, strict=True)) for i in range(n)]
    squares = _dot(rest, rest)
    alike = min(0.9, max(0.0, _dot(rest[1:], rest[:-1]) / squares)) if squares > 0 else 0.0
    widened = squares / (n - k - 1) * (1 + alike) / (1 - alike)
    return _Fit(slopes, [math.sqrt(max(0.0, widened * inverse[i][i])) for i in range(k)], squares)


def _inverse(matrix: list[list[float]]) -> list[list[float]] | None:
    """By Gauss and Jordan, after scaling; None where it has none, or hardly one."""
    k = len(matrix)
    scales = [math.sqrt(matrix[i][i]) for i in range(k)]
    if not all(scales):
        return None
    rows = [
        [matrix[i][j] / scales[i] / scales[j] for j in range(k)] + [float(i == j) for j in range(k)] for i in range(k)
    ]
    for i in range(k):
        pivot = max(range(i, k), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        if abs(rows[i][i]) < 1e-6:
            return None
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(k):
            if r != i:
                rows[r] = [value - rows[r][i] * own for value, own in zip(rows[r], rows[i], strict=True)]
    return [[rows[i][k + j] / scales[i] / scales[j] for j in range(k)] for i in range(k)]


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))

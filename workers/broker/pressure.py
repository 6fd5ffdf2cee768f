"""Whether a queue is too full to add to, and when to ask again. Pure.

A queue is full from its limit on until it is below EASED of it, so that producers are not let in and out by the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from workers.broker.numbers import is_number
from workers.broker.stats import QueueStats

LimitName: TypeAlias = Literal["depth", "age"]

#: The share of its limits below which a full queue is so no more.
EASED = 0.9
#: When to ask again, seconds: the soonest, the latest, and while nothing is known yet of how fast the queue drains.
SOONEST_S, LATEST_S, UNKNOWN_S = 1.0, 300.0, 30.0
#: Time between two samples, in seconds, from which on they tell a rate.
MIN_SPAN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait: `queues.<name>.limits`. None: no limit."""

    depth: int | None = None
    """Jobs."""
    age_s: float | None = None
    """Since when the oldest one may have been due, seconds."""

    def __bool__(self) -> bool:
        return self.depth is not None or self.age_s is not None


@dataclass(frozen=True, slots=True)
class Sample:
    """What counts of a queue's stats, at one moment."""

    at: float
    """Seconds of a clock that only goes forward."""
    depth: int
    age_s: float
    is_paused: bool = False

    @classmethod
    def of(cls, stats: QueueStats, at: float) -> Sample:
        """Of a queue's stats. A queue in which nothing waits for its first start has an age of 0."""
        return cls(at, stats.backlog, stats.oldest_waiting_s or 0.0, stats.is_paused)


@dataclass(frozen=True, slots=True)
class Pressure:
    """The decision."""

    full: bool = False
    reason: str = ""
    """With the figure and the limit, `12,000 waiting, limit 10,000`; empty where it is not full."""
    limit: LimitName | None = None
    """Which limit it is that says so; None where it is not full."""
    retry_after_s: float = 0.0
    """When it may be full no more, seconds from now; 0 where it is not full."""


@dataclass(frozen=True, slots=True)
class _Measure:
    name: LimitName
    limit: float
    value: float
    trail: Sequence[tuple[float, float]]
    """Time and value of the samples so far, the present one last."""

    @property
    def over(self) -> bool:
        return self.value >= self.limit

    @property
    def eased(self) -> bool:
        return self.value < EASED * self.limit

    def retry_after_s(self) -> float:
        """How long it takes until it has eased, at the rate since it was highest of late."""
        if len(self.trail) < 2 or self.trail[-1][0] - self.trail[0][0] < MIN_SPAN_S:
            return UNKNOWN_S
        now, value = self.trail[-1]
        at, highest = max(self.trail, key=lambda each: (each[1], each[0]))
        if highest <= value or now - at < MIN_SPAN_S:
            return LATEST_S
        wait = (value - EASED * self.limit) * (now - at) / (highest - value)
        return min(max(wait, SOONEST_S), LATEST_S) if is_number(wait) else LATEST_S


def decide(sample: Sample, limits: Limits, history: Iterable[Sample] = (), *, was_full: bool = False) -> Pressure:
    """Decide.

    Args:
        sample: the queue now.
        history: earlier samples of late, the oldest first.
        was_full: the last decision.
    """
    trail = [*(each for each in history if each.at < sample.at), sample]
    measures: list[_Measure] = []
    if limits.depth is not None:
        measures.append(_Measure("depth", limits.depth, sample.depth, [(each.at, each.depth) for each in trail]))
    if limits.age_s is not None:
        measures.append(_Measure("age", limits.age_s, sample.age_s, [(each.at, each.age_s) for each in trail]))
    full = [measure for measure in measures if measure.over or (was_full and not measure.eased)]
    if not full:
        return Pressure()
    worst = max(full, key=lambda measure: measure.value / measure.limit)
    reason = _reason(worst) + ("; the queue is paused" if sample.is_paused else "")
    wait = LATEST_S if sample.is_paused else max(measure.retry_after_s() for measure in full)
    return Pressure(True, reason, worst.name, wait)


def _reason(measure: _Measure) -> str:
    value, limit, eased = (_said(measure.name, each) for each in (measure.value, measure.limit, EASED * measure.limit))
    said = f"{value} waiting" if measure.name == "depth" else f"the oldest waiting job was due {value} ago"
    return f"{said}, limit {limit}" if measure.over else f"{said}, until below {eased} of the limit of {limit}"


def _said(name: LimitName, value: float) -> str:
    figure = f"{value:,.1f}".removesuffix(".0")
    return figure if name == "depth" else f"{figure} s"

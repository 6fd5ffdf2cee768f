"""How many jobs a queue gets done, how long they take, and why they fail. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.broker.job_view import JobView
from workers.broker.metrics_reader import Ended, Endings
from workers.broker.numbers import is_number, whole

#: Spans that are told, minutes.
SPANS = (1, 5, 60)
#: Errors that are told, and characters of each.
TOP_ERRORS, MAX_ERROR = 10, 200
# What differs between two failures of one kind: UUIDs, long hexadecimal and decimal numbers.
_OWN = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b0x[0-9a-f]+\b|\b[0-9a-f]{16,}\b|\d{5,}", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How many jobs have ended.

    Two sources are joined, and the larger number told, since either may miss some: BullMQ's metrics those that workers
    ended that keep none, as Node's do by default; and the jobs that are kept those that are kept no longer.
    """

    queue: str
    until_ms: int
    """When it was looked, ms since the epoch."""
    per_minute: Mapping[Ended, tuple[int, ...]]
    """By BullMQ's metrics: the minutes of the clock, the oldest first; the last one is not over."""
    totals: Mapping[Ended, int]
    """By BullMQ's metrics: since they are kept."""
    last: Mapping[int, Mapping[Ended, int]]
    """In the last 1, 5 and 60 minutes."""

    @classmethod
    def of(cls, queue: str, found: Mapping[Ended, Endings], now_ms: int, minutes: int) -> Throughput:
        """From what was read, with SPANS for the jobs that are kept."""
        series = {ended: each.metrics.per_minute(now_ms, max(minutes, SPANS[-1] + 1)) for ended, each in found.items()}
        return cls(
            queue=queue,
            until_ms=now_ms,
            per_minute={ended: tuple(points[-minutes:]) for ended, points in series.items()},
            totals={ended: each.metrics.total for ended, each in found.items()},
            last={
                span: {ended: max(each.kept[at], sum(series[ended][-1 - span : -1])) for ended, each in found.items()}
                for at, span in enumerate(SPANS)
            },
        )

    def json(self) -> dict[str, Any]:
        """For output."""
        return {
            "queueName": self.queue,
            "until": self.until_ms,
            "perMinute": {ended: list(points) for ended, points in self.per_minute.items()},
            "totals": dict(self.totals),
            "last": {f"{span}m": dict(counts) for span, counts in self.last.items()},
        }


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of durations in seconds, by nearest rank; None: there were none."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Percentiles:
        """From the durations, in any order."""
        ranked = sorted(seconds)

        def at(share: float) -> float | None:
            return ranked[math.ceil(share * len(ranked)) - 1] if ranked else None

        return cls(len(ranked), at(0.5), at(0.95), at(0.99))

    def json(self) -> dict[str, Any]:
        """For output."""
        return {"count": self.count, "p50": self.p50, "p95": self.p95, "p99": self.p99}


@dataclass(frozen=True, slots=True)
class TopError:
    """A kind of failure."""

    error: str
    """Its first line, without what differs from one failure to the next."""
    count: int
    job_id: str
    """The last job that failed so."""

    def json(self) -> dict[str, Any]:
        """For output."""
        return {"error": self.error, "count": self.count, "jobId": self.job_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMetrics:
    """How a queue does, by the jobs that ended last and are kept still."""

    throughput: Throughput
    processing: Percentiles
    """How long the last run of each took."""
    waiting: Percentiles
    """How long each waited for its first start since it was due, of those that were started once."""
    error_rate: float | None
    """Share of the last hour's jobs that failed; None: none has ended."""
    top_errors: tuple[TopError, ...]
    workers: int | None = None
    """Of both sides; None: the server does not tell."""
    idle_workers: int | None = None
    """Of them, those that wait for a job at present."""

    @classmethod
    def of(
        cls,
        throughput: Throughput,
        recent: Mapping[Ended, Sequence[JobView]],
        *,
        workers: int | None = None,
        idle_workers: int | None = None,
    ) -> QueueMetrics:
        """From what was read."""
        jobs = [job for each in recent.values() for job in each]
        ended = throughput.last[SPANS[-1]]
        total = sum(ended.values())
        return cls(
            throughput=throughput,
            processing=Percentiles.of(_spans((job.processed_ms, job.finished_ms) for job in jobs)),
            waiting=Percentiles.of(_spans((_due(job), job.processed_ms) for job in jobs if job.attempts_started <= 1)),
            error_rate=ended["failed"] / total if total else None,
            top_errors=top_errors(recent["failed"]),
            workers=workers,
            idle_workers=idle_workers,
        )

    def json(self) -> dict[str, Any]:
        """For output; durations in seconds."""
        return {
            "throughput": self.throughput.json(),
            "latency": {"processing": self.processing.json(), "waiting": self.waiting.json()},
            "errors": {"rate": self.error_rate, "top": [each.json() for each in self.top_errors]},
            "workers": {"seen": self.workers, "idle": self.idle_workers},
        }


def top_errors(failed: Sequence[JobView]) -> tuple[TopError, ...]:
    """The most frequent errors of these jobs, which are given the newest first."""
    counts: Counter[str] = Counter()
    newest: dict[str, str] = {}
    for job in failed:
        error = gist(job.failed_reason or "")
        counts[error] += 1
        newest.setdefault(error, job.id)
    return tuple(TopError(error, count, newest[error]) for error, count in counts.most_common(TOP_ERRORS))


def gist(reason: str) -> str:
    """The first line of a failure's reason, with what is its own replaced: equal for failures of one kind."""
    line = next((text.strip() for text in reason[: 4 * MAX_ERROR].splitlines() if text.strip()), "")
    line = _OWN.sub("…", line)
    return line if len(line) <= MAX_ERROR else f"{line[: MAX_ERROR - 1]}…"


def _due(job: JobView) -> int | None:
    delay = job.opts.get("delay")
    return None if job.added_ms is None else job.added_ms + (whole(delay) if is_number(delay) else 0)


def _spans(pairs: Iterable[tuple[int | None, int | None]]) -> list[float]:
    """Seconds between two times; clocks of two machines may differ, so none is negative."""
    return [max(0, end - start) / 1000 for start, end in pairs if start is not None and end is not None]

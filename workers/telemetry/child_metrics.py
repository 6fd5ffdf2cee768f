"""Metrics of the child processes in which jobs run apart: beside Metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

from workers.broker.events import ChildDied, ChildReady, ChildRecycled, ChildStartFailed, Event

#: Seconds that a child takes to be ready: an interpreter and its module, on a machine that is idle or full.
START_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)
#: Why a child is replaced on purpose, see ChildRecycled.
RECYCLED = ("jobs", "memory", "state")


class ChildMetrics:
    """Counts events.

    Args:
        registry: where they are registered.
        bounded: (label, value) → the value that is written for it, one of a bounded number.
    """

    def __init__(self, registry: CollectorRegistry, bounded: Callable[[str, str], str]) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ("queue", *labels), registry=registry)

        self._bounded = bounded
        self._starts = Histogram(
            "fleet_child_start_duration_seconds",
            "Time that a child process took from its start until its module was open.",
            ("queue",),
            registry=registry,
            buckets=START_BUCKETS,
        )
        self._failed = counter("fleet_child_starts_failed_total", "Child processes that could not be started.")
        self._deaths = counter("fleet_child_deaths_total", "Child processes that ended unasked.", "reason")
        self._recycles = counter("fleet_child_recycles_total", "Child processes replaced on purpose.", "reason")
        self._seeded: set[str] = set()

    def __call__(self, event: Event, queue: str) -> None:
        """Count an event of this queue, whose name is bounded already."""
        match event:
            case ChildReady():
                self._seed(queue)
                self._starts.labels(queue).observe(max(0.0, event.took_s))
            case ChildStartFailed():
                self._seed(queue)
                self._failed.labels(queue).inc()
            case ChildDied():
                self._deaths.labels(queue, self._bounded("child_death", event.reason)).inc()
            case ChildRecycled():
                self._recycles.labels(queue, self._bounded("child_recycle", event.reason)).inc()

    def _seed(self, queue: str) -> None:
        """At 0 before the first one, so that a rate sees it."""
        if queue not in self._seeded:
            self._seeded.add(queue)
            self._failed.labels(queue)
            for reason in RECYCLED:
                self._recycles.labels(queue, reason)

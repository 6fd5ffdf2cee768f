"""Prometheus metrics of a supervisor: its processes, their deaths and replacements, poison jobs, reloads.

In a registry of the supervisor's own, whose text follows that of the processes' shared files (`exposition.py`).
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from workers.runtime.supervision.death import Death
from workers.runtime.supervision.replacement import Event, Recycled
from workers.runtime.supervision.view import STATES, FleetView

#: What reading the configuration again can come to.
RESULTS = ("applied", "refused", "failed")


class SupervisionMetrics:
    """A listener for what the supervisor tells, and a gauge of what it sees.

    Args:
        registry: where they are registered; two of these need two registries.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode="livemax")

        self._processes = gauge("fleet_processes", "Processes of a pool by state.", "pool", "state")
        self._rss = gauge("fleet_process_rss_bytes", "Resident memory of a process.", "pool", "process")
        self._deaths = counter("fleet_process_deaths_total", "Processes that ended unasked.", "pool", "reason")
        self._recycles = counter("fleet_process_recycles_total", "Processes replaced on purpose.", "pool", "reason")
        self._failed = counter(
            "fleet_process_recycles_failed_total", "Replacements whose successor did not start.", "pool", "reason"
        )
        self._quarantined = counter(
            "fleet_jobs_quarantined_total", "Jobs that fail since their process died too often.", "queue"
        )
        self._reloads = counter("fleet_config_reload_total", "Times the configuration was read again.", "result")
        self._reloaded_at = gauge("fleet_config_reload_timestamp_seconds", "When it was read last.")
        self._reloaded_at.set(time.time())
        self._pools: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        for result in RESULTS:  # at 0 before the first one, so that a rate sees it
            self._reloads.labels(result)

    def __call__(self, event: Event) -> None:
        match event:
            case Death() if not event.expected:
                self._deaths.labels(event.pool, event.reason).inc()
            case Recycled():
                (self._recycles if event.started else self._failed).labels(event.pool, event.reason).inc()
                if event.reverted:
                    self._reloads.labels("failed").inc()

    def quarantined(self, queue: str) -> None:
        """A job of this queue is not run any more."""
        self._quarantined.labels(queue).inc()

    def serves(self, queues: Iterable[str]) -> None:
        """Count the poison jobs of these queues from 0, so that a rate sees the first one."""
        for queue in queues:
            self._quarantined.labels(queue)

    def reloaded(self, result: str, at: float) -> None:
        """The configuration was read again, seconds since the epoch."""
        self._reloads.labels(result).inc()
        self._reloaded_at.set(at)

    def see(self, view: FleetView) -> None:
        """Set the gauges to what the supervisor sees now."""
        self._pools |= {pool.name for pool in view.pools}
        states = Tally((process.pool, process.state) for process in view.processes)
        for pool in self._pools:
            for state in STATES:
                self._processes.labels(pool, state).set(states[pool, state])
        # During a replacement two processes have one name: what they take is told together.
        sizes: Tally[tuple[str, str]] = Tally()
        for process in view.processes:
            sizes[process.pool, process.name] += process.report.rss
        for gone in self._seen - set(sizes):
            self._rss.remove(*gone)
        self._seen = set(sizes)
        for labels, size in sizes.items():
            self._rss.labels(*labels).set(size)

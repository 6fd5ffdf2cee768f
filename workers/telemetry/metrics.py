"""Prometheus metrics of jobs and workers: a listener that counts events, in one registry or in shared files.

With PROMETHEUS_MULTIPROC_DIR set before the process starts, `prometheus_client` keeps all values in files of that
directory, and the supervisor serves their sum (`exposition.py`). Label values are bounded, whatever events carry.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from workers.broker.events import (
    ChildDied,
    ChildReady,
    ChildRecycled,
    ChildStartFailed,
    ConnectionChanged,
    Event,
    JobActive,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
    JobStalled,
    QueuePaused,
    WorkerError,
    WorkerState,
)
from workers.telemetry.child_metrics import ChildMetrics
from workers.telemetry.runtime_metrics import RuntimeMetrics

#: What a run of a job can end in: the values of the label `outcome`.
OUTCOMES = ("completed", "failed", "retried", "delayed", "handed_back", "lost")
_OUTCOME: dict[type[JobEvent], str] = {
    JobCompleted: "completed",
    JobFailed: "failed",
    JobRetrying: "retried",
    JobDelayed: "delayed",
    JobHandedBack: "handed_back",
    JobLost: "lost",
}
#: Seconds, from a cache hit to an hour-long run.
BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600,
)  # fmt: skip
#: Different values, and characters of each, that one label may take; further ones are counted as `other`.
MAX_VALUES, MAX_LENGTH = 100, 64
OTHER = "other"


class Metrics:
    """The metrics of this process: a listener for events, plus some values that others measure.

    Args:
        registry: where they are registered; two Metrics need two registries.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # `…_created` series double their number, and the shared files have none
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        by_queue, by_task = ("queue",), ("queue", "task_type")

        def gauge(
            name: str, text: str, mode: Literal["livesum", "livemin", "livemax"], labels: tuple[str, ...] = by_queue
        ) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, by_task, registry=registry, buckets=BUCKETS)

        self._jobs = counter("bullmq_worker_jobs_total", "Runs of jobs that ended here.", (*by_task, "outcome"))
        self._process = histogram("bullmq_job_process_duration_seconds", "Run time of completed and failed attempts.")
        self._wait = histogram("bullmq_job_wait_duration_seconds", "Time from when a job was due to its first start.")
        self._active = gauge("bullmq_worker_active_jobs", "Jobs that run now.", "livesum")
        self._concurrency = gauge("bullmq_worker_concurrency", "Slots.", "livesum")
        self._up = gauge("bullmq_worker_up", "Workers that take jobs.", "livesum")
        self._stalled = counter("bullmq_job_stalled_total", "Jobs found stalled and put back.", by_queue)
        self._errors = counter("bullmq_worker_errors_total", "Errors that belong to no job's work.", ("queue", "where"))
        self._redis_up = gauge("bullmq_redis_up", "1 while every process is connected to Redis.", "livemin")
        self._paused = gauge("bullmq_queue_paused", "1 while the queue is paused for everyone.", "livemax")
        self._failures = counter("fleet_listener_failures_total", "Exceptions of event listeners.", ())
        self._lag = gauge("fleet_event_loop_lag_seconds", "Worst lag of the event loop lately.", "livemax", ())
        self._connections = gauge("fleet_redis_connections", "Open connections to Redis.", "livesum", ())

        self._known: dict[str, set[str]] = defaultdict(set)
        self.runtime = RuntimeMetrics(registry, self._bounded)
        self._children = ChildMetrics(registry, self._bounded)
        self._running: dict[str, int] = defaultdict(int)
        self._seeded: set[tuple[str, str]] = set()
        self._failures_seen = 0

    def __call__(self, event: Event) -> None:
        queue = self._bounded("queue", event.queue)
        self.runtime(event, queue)
        match event:
            case JobActive():
                self._started(queue, event)
            case JobEvent():
                self._ended(queue, event)
            case JobStalled():
                self._stalled.labels(queue).inc()
            case WorkerState():
                self._state(queue, event)
            case WorkerError():
                self._errors.labels(queue, self._bounded("where", event.where)).inc()
            case QueuePaused():
                self._paused.labels(queue).set(event.paused)
            case ConnectionChanged():
                self._redis_up.labels(queue).set(event.up)
            case ChildReady() | ChildStartFailed() | ChildDied() | ChildRecycled():
                self._children(event, queue)

    def listener_failures(self, total: int) -> None:
        """Take over the count of `Emitter.failures`: the total so far, not the increase."""
        if total > self._failures_seen:
            self._failures.inc(total - self._failures_seen)
            self._failures_seen = total

    def loop_lag(self, seconds: float) -> None:
        """Set the worst lag of the event loop within the last seconds (`loop_lag.py`)."""
        self._lag.set(seconds)

    def redis_connections(self, number: int) -> None:
        """Set how many connections to Redis are open in this process."""
        self._connections.set(number)

    def _started(self, queue: str, event: JobActive) -> None:
        task_type = self._bounded("task_type", event.task_type)
        if (queue, task_type) not in self._seeded:
            self._seeded.add((queue, task_type))
            for outcome in OUTCOMES:  # at 0 before the first one, so that a rate sees it
                self._jobs.labels(queue, task_type, outcome)
        self._set_running(queue, self._running[queue] + 1)
        if event.wait_s is not None:
            self._wait.labels(queue, task_type).observe(_seconds(event.wait_s))

    def _ended(self, queue: str, event: JobEvent) -> None:
        outcome = _OUTCOME.get(type(event))
        if outcome is None:  # neither a start nor an end
            return
        task_type = self._bounded("task_type", event.task_type)
        self._jobs.labels(queue, task_type, outcome).inc()
        # An end without its start (subscribed in between) must not leave a gauge below the truth for good.
        self._set_running(queue, max(0, self._running[queue] - 1))
        if isinstance(event, JobCompleted | JobFailed | JobRetrying):
            self._process.labels(queue, task_type).observe(_seconds(event.duration_s))

    def _set_running(self, queue: str, jobs: int) -> None:
        self._running[queue] = jobs
        self._active.labels(queue).set(jobs)

    def _state(self, queue: str, event: WorkerState) -> None:
        self._up.labels(queue).set(event.state == "running")
        self._concurrency.labels(queue).set(0 if event.state == "closed" else event.slots)
        self._set_running(queue, self._running[queue])
        self._stalled.labels(queue)
        self._paused.labels(queue)

    def _bounded(self, label: str, value: str) -> str:
        known = self._known[label]
        if value in known:
            return value
        if len(value) > MAX_LENGTH or len(known) >= MAX_VALUES:
            return OTHER
        known.add(value)
        return value


def _seconds(value: float) -> float:
    """At least 0: clocks of two machines differ, and a NaN would spoil a sum for good."""
    return value if value > 0 else 0.0

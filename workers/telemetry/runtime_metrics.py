"""Metrics of how jobs fail, take long or don't end, what memory they need, and who blocks the event loop: beside
Metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from workers.broker.events import Event, JobCompleted, JobEvent, JobFailed, JobRetrying, JobRung, LoopBlocked
from workers.broker.memory import JobMemory

#: The last value of the label `attempt` stands for that attempt and all further ones.
LAST_ATTEMPT = 5
#: Bytes that one job leaves behind, and the most that its process needs: 16 MiB to 16 GiB.
DELTA_BUCKETS = (0, 2**14, 2**16, 2**18, 2**20, 2**22, 2**24, 2**26, 2**28, 2**30)
PEAK_BUCKETS = tuple(2**n for n in range(24, 35))
_OUTCOME: dict[type, str] = {JobCompleted: "completed", JobFailed: "failed", JobRetrying: "retried"}
_BLOCKED = (
    "by the job that kept it. Where none did, the queue is `unknown` and the task type tells: `stopped` (the process "
    "got no processor time), `gc` (garbage collection), else `unknown`."
)


class RuntimeMetrics:
    """Counts events, and takes three values that others measure.

    Args:
        registry: where they are registered.
        bounded: (label, value) → the value that is written for it, one of a bounded number.
    """

    def __init__(self, registry: CollectorRegistry, bounded: Callable[[str, str], str]) -> None:
        by_task = ("queue", "task_type")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, (*by_task, *labels), registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, by_task, registry=registry, buckets=buckets)

        self._bounded = bounded
        self._attempts = counter(
            "fleet_job_attempts_total", "Attempts that ended, by which one it was.", "attempt", "outcome"
        )
        self._failures = counter("fleet_job_failures_total", "Attempts that failed, by kind.", "failure")
        self._rungs = counter("fleet_job_rungs_total", "Tries of the rungs that runs of jobs have reached.", "rung")
        self._blocks = counter("fleet_loop_blocked_total", f"How often the event loop did not turn, {_BLOCKED}")
        self._blocked_s = counter(
            "fleet_loop_blocked_seconds_total", f"Seconds in which the event loop did not turn, {_BLOCKED}"
        )
        self._delta = histogram(
            "fleet_job_memory_delta_bytes",
            "What a job that had a process of its own left behind there: exact, and of that job alone. Less than "
            "before counts as 0.",
            DELTA_BUCKETS,
        )
        self._peak = histogram(
            "fleet_job_memory_peak_bytes",
            "The most that the process of a job which had one of its own needed meanwhile: exact, of that job alone.",
            PEAK_BUCKETS,
        )
        self._resident = Gauge(
            "fleet_process_resident_memory_bytes",
            "Resident memory of a whole process that runs jobs. Those on its event loop and in its threads share it: "
            "it is no job's. Children in which jobs run apart are not in it, see fleet_job_memory_delta_bytes.",
            ("process", "scope"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._slope = Gauge(
            "fleet_rss_slope_bytes",
            "What 1,000 jobs of a type leave behind. Scope `job`: measured in processes of their own. Scope "
            "`process`: estimated from the memory of the whole process; `several` are types that come together.",
            ("task_type", "scope"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._left = Gauge(
            "fleet_runs_left_behind",
            "Runs on the event loop or in threads that go on although their jobs are over: they ignored their "
            "cancellation. They end with their process.",
            ("queue",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._left_of: set[str] = set()
        self._ended: dict[tuple[str, str, int, type], Counter] = {}

    def __call__(self, event: Event, queue: str) -> None:
        """Count an event of this queue, whose name is bounded already."""
        if isinstance(event, JobCompleted | JobFailed | JobRetrying):
            self._attempt(queue, event)
        elif isinstance(event, JobRung):
            self._rungs.labels(queue, self._bounded("task_type", event.task_type), event.rung).inc()
        elif isinstance(event, LoopBlocked):
            self._blocked(queue, event)
            return
        memory: JobMemory | None = getattr(event, "memory", None)
        if memory is not None:
            self._memory(queue, event, memory)

    def resident(self, process: str, number: int) -> None:
        """Set the resident memory of this process, which is called so, in bytes."""
        self._resident.labels(self._bounded("process", process), "process").set(number)

    def slope(self, task_type: str, scope: str, number: float) -> None:
        """Set how many bytes 1,000 jobs of a type leave behind (`leak_watch.py`)."""
        self._slope.labels(self._bounded("task_type", task_type), scope).set(number)

    def left_behind(self, runs: Mapping[str, int]) -> None:
        """Set how many runs are left behind, by queue; 0 for a queue that is not named any more."""
        for queue in self._left_of | set(runs):
            self._left.labels(self._bounded("queue", queue)).set(runs.get(queue, 0))
        self._left_of |= set(runs)

    def _attempt(self, queue: str, event: JobCompleted | JobFailed | JobRetrying) -> None:
        task_type = self._bounded("task_type", event.task_type)
        key = queue, task_type, min(event.attempt, LAST_ATTEMPT), type(event)
        if key not in self._ended:  # looking a counter up by its labels costs more than counting
            which = str(event.attempt) if event.attempt < LAST_ATTEMPT else f"{LAST_ATTEMPT}+"
            self._ended[key] = self._attempts.labels(queue, task_type, which, _OUTCOME[type(event)])
        self._ended[key].inc()
        if not isinstance(event, JobCompleted):
            self._failures.labels(queue, task_type, self._bounded("failure", event.failure)).inc()

    def _blocked(self, queue: str, event: LoopBlocked) -> None:
        if event.over:
            labels = queue, self._bounded("task_type", event.task_type)
            self._blocks.labels(*labels).inc()
            self._blocked_s.labels(*labels).inc(max(0.0, event.blocked_s))

    def _memory(self, queue: str, event: Event, memory: JobMemory) -> None:
        assert isinstance(event, JobEvent)  # noqa: S101 - no other event has memory
        labels = queue, self._bounded("task_type", event.task_type)
        self._delta.labels(*labels).observe(max(0, memory.delta))
        if memory.peak is not None:
            self._peak.labels(*labels).observe(memory.peak)

"""Events become numbers, and only bounded labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from workers.broker.emitter import Emitter
from workers.broker.events import (
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
    WorkerError,
    WorkerState,
)
from workers.telemetry.metrics import BUCKETS, MAX_LENGTH, MAX_VALUES, OTHER, OUTCOMES, Metrics

JOB: dict[str, Any] = {
    "queue": "email-send", "job_id": "7", "job_name": "email", "task_type": "email-send", "attempt": 1,
}  # fmt: skip
ENDINGS: dict[str, JobEvent] = {
    "completed": JobCompleted(**JOB, duration_s=2.0, result=None),
    "failed": JobFailed(**JOB, duration_s=2.0, reason="r", error="E"),
    "retried": JobRetrying(**JOB, duration_s=2.0, reason="r", error="E", delay_s=1.0),
    "delayed": JobDelayed(**JOB, duration_s=2.0, reason="r", delay_s=1.0),
    "handed_back": JobHandedBack(**JOB, duration_s=2.0, reason="r"),
    "lost": JobLost(**JOB, duration_s=2.0, reason="r"),
}
TASK = {"queue": "email-send", "task_type": "email-send"}
QUEUE = {"queue": "email-send"}


class Measured:
    """Metrics in a registry of their own."""

    def __init__(self, *events: Event) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        for event in events:
            self.metrics(event)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def runs(self, outcome: str) -> float | None:
        return self.value("bullmq_worker_jobs_total", **TASK, outcome=outcome)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_ending_counts_once_and_frees_its_slot(outcome: str) -> None:
    measured = Measured(JobActive(**JOB, wait_s=0.5))
    assert measured.value("bullmq_worker_active_jobs", **QUEUE) == 1
    assert {name: measured.runs(name) for name in OUTCOMES} == dict.fromkeys(OUTCOMES, 0.0)
    measured.metrics(ENDINGS[outcome])
    assert measured.value("bullmq_worker_active_jobs", **QUEUE) == 0
    assert {name: measured.runs(name) for name in OUTCOMES} == {name: float(name == outcome) for name in OUTCOMES}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_finished_attempts_have_a_run_time(outcome: str) -> None:
    measured = Measured(JobActive(**JOB, wait_s=None), ENDINGS[outcome])
    finished = outcome in ("completed", "failed", "retried")
    assert measured.value("bullmq_job_process_duration_seconds_count", **TASK) == (1.0 if finished else None)
    assert measured.value("bullmq_job_process_duration_seconds_sum", **TASK) == (2.0 if finished else None)


@pytest.mark.parametrize(
    ("wait_s", "count", "total"), [(None, None, None), (3.0, 1, 3.0), (-5.0, 1, 0.0), (float("nan"), 1, 0.0)]
)
def test_the_wait_is_measured_once_and_never_below_zero(
    wait_s: float | None, count: float | None, total: float | None
) -> None:
    measured = Measured(JobActive(**JOB, wait_s=wait_s))
    assert measured.value("bullmq_job_wait_duration_seconds_count", **TASK) == count
    assert measured.value("bullmq_job_wait_duration_seconds_sum", **TASK) == total


def test_the_buckets_reach_from_milliseconds_to_an_hour() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert (BUCKETS[0], BUCKETS[-1]) == (0.005, 3600)
    measured = Measured(JobActive(**JOB, wait_s=3599.0))
    assert measured.value("bullmq_job_wait_duration_seconds_bucket", **TASK, le="1800.0") == 0
    assert measured.value("bullmq_job_wait_duration_seconds_bucket", **TASK, le="3600.0") == 1


@pytest.mark.parametrize(
    ("state", "up", "slots"), [("starting", 0, 5), ("running", 1, 5), ("draining", 0, 5), ("closed", 0, 0)]
)
def test_a_worker_is_up_while_it_takes_jobs(state: Any, up: int, slots: int) -> None:
    measured = Measured(WorkerState(queue="email-send", state=state, slots=5))
    assert measured.value("bullmq_worker_up", **QUEUE) == up
    assert measured.value("bullmq_worker_concurrency", **QUEUE) == slots
    assert measured.value("bullmq_worker_active_jobs", **QUEUE) == 0
    assert measured.value("bullmq_job_stalled_total", **QUEUE) == 0


def test_stalls_errors_and_connections_are_counted() -> None:
    measured = Measured(
        JobStalled(queue="email-send", job_id="1"),
        JobStalled(queue="email-send", job_id="2"),
        WorkerError(queue="email-send", where="fetch", error=OSError("x")),
        ConnectionChanged(queue="email-send", up=True, detail=""),
    )
    assert measured.value("bullmq_job_stalled_total", **QUEUE) == 2
    assert measured.value("bullmq_worker_errors_total", **QUEUE, where="fetch") == 1
    assert measured.value("bullmq_redis_up", **QUEUE) == 1
    measured.metrics(ConnectionChanged(queue="email-send", up=False, detail="reset"))
    assert measured.value("bullmq_redis_up", **QUEUE) == 0


def test_listener_failures_are_taken_over_as_a_total() -> None:
    measured = Measured()
    emit = Emitter()

    def broken(event: Event) -> None:
        raise ValueError

    emit.subscribe(broken)
    for _ in range(3):
        emit(JobStalled(queue="q", job_id="1"))
        measured.metrics.listener_failures(emit.failures)
        measured.metrics.listener_failures(emit.failures)
    assert measured.value("fleet_listener_failures_total") == 3


def test_the_lag_of_the_loop_is_a_gauge() -> None:
    measured = Measured()
    measured.metrics.loop_lag(0.25)
    assert measured.value("fleet_event_loop_lag_seconds") == 0.25


def test_connections_to_redis_are_a_gauge() -> None:
    measured = Measured()
    for number in (7, 3):
        measured.metrics.redis_connections(number)
    assert measured.value("fleet_redis_connections") == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["start", *OUTCOMES]), max_size=40))
def test_running_jobs_are_starts_minus_ends_and_never_below_zero(steps: list[str]) -> None:
    measured = Measured()
    running = 0
    for step in steps:
        measured.metrics(JobActive(**JOB, wait_s=0.0) if step == "start" else ENDINGS[step])
        running = running + 1 if step == "start" else max(0, running - 1)
    if steps:
        assert measured.value("bullmq_worker_active_jobs", **QUEUE) == running
        ends = Counter(steps)
        assert {name: measured.runs(name) or 0 for name in OUTCOMES} == {name: ends[name] for name in OUTCOMES}


def test_labels_are_bounded_whatever_events_carry() -> None:
    measured = Measured()
    for n in range(3 * MAX_VALUES):
        job = {**JOB, "queue": f"q{n}", "task_type": f"t{n}"}
        measured.metrics(JobActive(**job, wait_s=0.0))
        measured.metrics(WorkerError(queue="q0", where=f"w{n}", error=OSError()))
    measured.metrics(WorkerError(queue="q0", where="x" * (MAX_LENGTH + 1), error=OSError()))
    samples = [sample for metric in measured.registry.collect() for sample in metric.samples]
    for label in ("queue", "task_type", "where"):
        values = {sample.labels[label] for sample in samples if label in sample.labels}
        assert len(values) == MAX_VALUES + 1
        assert OTHER in values
    assert measured.value("bullmq_worker_errors_total", queue="q0", where=OTHER) == 2 * MAX_VALUES + 1


def test_two_registries_do_not_share_numbers() -> None:
    first, second = Measured(JobActive(**JOB, wait_s=0.0)), Measured()
    assert first.value("bullmq_worker_active_jobs", **QUEUE) == 1
    assert second.value("bullmq_worker_active_jobs", **QUEUE) is None


def test_an_event_newer_than_this_file_is_no_error() -> None:
    measured = Measured(JobEvent(**JOB))
    assert measured.value("bullmq_worker_active_jobs", **QUEUE) is None

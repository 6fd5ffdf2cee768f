"""Attempts, kinds of failure, memory and blocked loops as numbers."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from workers.broker.events import Event, JobCompleted, JobDelayed, JobFailed, JobRetrying, JobRung, LoopBlocked
from workers.broker.memory import JobMemory
from workers.contract.errors import FailureClass
from workers.telemetry.metrics import MAX_VALUES, OTHER, Metrics

JOB: dict[str, Any] = {"queue": "email-send", "job_id": "7", "job_name": "email", "task_type": "email-send"}
TASK = {"queue": "email-send", "task_type": "email-send"}
FAILURES: tuple[FailureClass, ...] = (
    "transient", "permanent", "rate-limited", "budget", "user", "crashed", "timed-out",
)  # fmt: skip


class Measured:
    """Metrics in a registry of their own."""

    def __init__(self, *events: Event) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        for event in events:
            self.metrics(event)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """By the values of the labels that are not the task's."""
        samples = [each for metric in self.registry.collect() for each in metric.samples if each.name == name]
        return {tuple(v for k, v in each.labels.items() if k not in TASK): each.value for each in samples}


def completed(attempt: int = 1, memory: JobMemory | None = None) -> JobCompleted:
    return JobCompleted(**JOB, attempt=attempt, duration_s=1.0, result=None, memory=memory)


def retrying(attempt: int = 1, failure: str = "transient") -> JobRetrying:
    return JobRetrying(**JOB, attempt=attempt, duration_s=1.0, reason="r", error="E", delay_s=1.0, failure=failure)


def failed(attempt: int = 1, failure: str = "permanent") -> JobFailed:
    return JobFailed(**JOB, attempt=attempt, duration_s=1.0, reason="r", error="E", failure=failure)


def test_share_of_second_attempts_that_succeed_can_be_read() -> None:
    measured = Measured(completed(), retrying(), retrying(), retrying(), completed(2), completed(2), retrying(2))
    assert measured.values("fleet_job_attempts_total") == {
        ("1", "completed"): 1, ("1", "retried"): 3, ("2", "completed"): 2, ("2", "retried"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(("attempt", "label"), [(1, "1"), (4, "4"), (5, "5+"), (6, "5+"), (1_000_000, "5+")])
def test_attempts_are_bounded(attempt: int, label: str) -> None:
    assert Measured(failed(attempt)).values("fleet_job_attempts_total") == {(label, "failed"): 1}


def test_late_attempts_share_a_number() -> None:
    assert Measured(*(failed(n) for n in range(5, 9))).values("fleet_job_attempts_total") == {("5+", "failed"): 4}


def test_job_that_was_put_off_has_made_no_attempt() -> None:
    put_off = JobDelayed(**JOB, attempt=1, duration_s=1.0, reason="r", delay_s=1.0)
    assert Measured(put_off).values("fleet_job_attempts_total") == {}


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failed_attempt_is_counted_by_its_kind(failure: FailureClass) -> None:
    measured = Measured(retrying(1, failure), failed(2, failure), completed(3))
    assert measured.values("fleet_job_failures_total") == {(failure,): 2}


def test_kinds_of_failure_are_bounded_whatever_events_carry() -> None:
    measured = Measured(*(failed(1, f"f{n}") for n in range(2 * MAX_VALUES)))
    counted = measured.values("fleet_job_failures_total")
    assert len(counted) == MAX_VALUES + 1
    assert counted[(OTHER,)] == MAX_VALUES


def test_memory_of_an_isolated_job_is_told_with_its_end() -> None:
    measured = Measured(completed(memory=JobMemory(10_000_000, 10_100_000, 30_000_000)))
    assert measured.value("fleet_job_memory_delta_bytes_sum", **TASK) == 100_000
    assert measured.value("fleet_job_memory_delta_bytes_bucket", **TASK, le="262144.0") == 1
    assert measured.value("fleet_job_memory_delta_bytes_bucket", **TASK, le="65536.0") == 0
    assert measured.value("fleet_job_memory_peak_bytes_sum", **TASK) == 30_000_000


def test_memory_that_shrank_counts_as_none_left_behind_and_an_unknown_peak_not_at_all() -> None:
    measured = Measured(failed(), JobFailed(**JOB, attempt=1, duration_s=1.0, reason="", error="E",
                                            memory=JobMemory(9_000_000, 8_000_000)))  # fmt: skip
    assert measured.value("fleet_job_memory_delta_bytes_count", **TASK) == 1
    assert measured.value("fleet_job_memory_delta_bytes_bucket", **TASK, le="0.0") == 1
    assert measured.value("fleet_job_memory_delta_bytes_sum", **TASK) == 0
    assert measured.value("fleet_job_memory_peak_bytes_count", **TASK) is None


def test_jobs_that_share_a_process_have_no_memory_of_their_own() -> None:
    measured = Measured(completed())
    assert measured.value("fleet_job_memory_delta_bytes_count", **TASK) is None
    measured.metrics.runtime.resident("communication-0", 123)
    assert measured.value("fleet_process_resident_memory_bytes", process="communication-0", scope="process") == 123


def test_every_try_of_a_rung_is_counted() -> None:
    tries = [JobRung(**JOB, attempt=1, rung="pause", after_s=60.0, attempt_of_rung=number) for number in (1, 2)]
    measured = Measured(*tries, JobRung(**JOB, attempt=1, rung="kill", after_s=80.0, attempt_of_rung=1))
    assert measured.values("fleet_job_rungs_total") == {("pause",): 2, ("kill",): 1}
    assert measured.values("bullmq_worker_active_jobs") in ({}, {(): 0})


def test_block_is_counted_once_when_it_is_over() -> None:
    block: dict[str, Any] = {**TASK, "job_id": "7", "stack": ""}
    measured = Measured(
        LoopBlocked(**block, blocked_s=0.5, over=False),
        LoopBlocked(**block, blocked_s=2.5),
        LoopBlocked(queue="unknown", task_type="stopped", job_id="", stack="", blocked_s=1.0),
    )
    assert measured.value("fleet_loop_blocked_total", **TASK) == 1
    assert measured.value("fleet_loop_blocked_seconds_total", **TASK) == 2.5
    assert measured.value("fleet_loop_blocked_seconds_total", queue="unknown", task_type="stopped") == 1.0


def test_slope_is_told_by_type_and_by_how_it_was_measured() -> None:
    measured = Measured()
    measured.metrics.runtime.slope("email-send", "process", 5e6)
    measured.metrics.runtime.slope("scan", "job", 7e6)
    measured.metrics.runtime.slope("email-send", "process", 0.0)
    assert measured.value("fleet_rss_slope_bytes", task_type="email-send", scope="process") == 0.0
    assert measured.value("fleet_rss_slope_bytes", task_type="scan", scope="job") == 7e6


def test_runs_left_behind_are_told_by_queue_and_forgotten_with_them() -> None:
    measured = Measured()
    measured.metrics.runtime.left_behind({"q": 2, "r": 0})
    told = [measured.value("fleet_runs_left_behind", queue=queue) for queue in ("q", "r")]
    measured.metrics.runtime.left_behind({"r": 1})
    told += [measured.value("fleet_runs_left_behind", queue=queue) for queue in ("q", "r")]
    assert told == [2, 0, 0, 1]


def test_help_says_what_is_a_jobs_and_what_is_the_process() -> None:
    texts = {metric.name: metric.documentation for metric in Measured().registry.collect()}
    assert "exact, and of that job alone" in texts["fleet_job_memory_delta_bytes"]
    assert "it is no job's" in texts["fleet_process_resident_memory_bytes"]

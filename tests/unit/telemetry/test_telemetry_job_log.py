"""One line for each event, at the right level, without payload and result."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

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
    JobFailed,
    JobHandedBack,
    JobLost,
    JobProgress,
    JobRetrying,
    JobRung,
    JobStalled,
    LoopBlocked,
    QueueDrained,
    WorkerError,
    WorkerState,
)
from workers.broker.memory import JobMemory
from workers.telemetry.job_log import LOGGER, MAX_REASON, STACK_EVERY_S, JobLog, line_for

JOB: dict[str, Any] = {
    "queue": "email-send", "job_id": "7", "job_name": "email", "task_type": "email-send", "attempt": 2,
}  # fmt: skip
RAN: dict[str, Any] = {"duration_s": 1.23456, "reason": "550 dora@example.com unknown, password=x"}
CLEAN = {"duration_s": 1.235, "reason": "550 d***@example.com unknown, password=***"}
EVENTS: list[tuple[Event, int, str, dict[str, Any]]] = [
    (JobActive(**JOB, wait_s=0.12345), logging.DEBUG, "job started", {**JOB, "wait_s": 0.123}),
    (JobActive(**JOB, wait_s=None), logging.DEBUG, "job started", JOB),
    (JobCompleted(**JOB, duration_s=1.23456, result={"secret": 1}), logging.INFO, "job completed",
     {**JOB, "duration_s": 1.235}),
    (JobFailed(**JOB, **RAN, error="SMTPError", failure="user"), logging.ERROR, "job failed",
     {**JOB, **CLEAN, "error": "SMTPError", "failure": "user"}),
    (JobRetrying(**JOB, **RAN, error="OSError", delay_s=4.0), logging.WARNING, "job failed, retrying",
     {**JOB, **CLEAN, "error": "OSError", "failure": "transient", "delay_s": 4.0}),
    (JobDelayed(**JOB, **RAN, delay_s=30), logging.INFO, "job delayed", {**JOB, **CLEAN, "delay_s": 30}),
    (JobHandedBack(**JOB, **RAN), logging.INFO, "job handed back", {**JOB, **CLEAN}),
    (JobLost(**JOB, **RAN), logging.WARNING, "job lock lost", {**JOB, **CLEAN}),
    (JobRung(**JOB, rung="warn", after_s=60.01234, attempt_of_rung=1), logging.WARNING, "job takes long",
     {**JOB, "rung": "warn", "after_s": 60.012, "attempt_of_rung": 1}),
    (JobRung(**JOB, rung="pause", after_s=60.01234, attempt_of_rung=2), logging.WARNING,
     "job takes long; it is asked to set itself aside",
     {**JOB, "rung": "pause", "after_s": 60.012, "attempt_of_rung": 2}),
    (JobRung(**JOB, rung="kill", after_s=60.01234, attempt_of_rung=1), logging.WARNING,
     "job's time is up; it is ended by force, where its isolation can do that",
     {**JOB, "rung": "kill", "after_s": 60.012, "attempt_of_rung": 1}),
    (ChildReady(queue="q", took_s=0.51234), logging.DEBUG, "child process is ready", {"queue": "q", "took_s": 0.512}),
    (ChildStartFailed(queue="q"), logging.DEBUG, "child process could not be started", {"queue": "q"}),
    (ChildDied(queue="q", reason="SIGSEGV"), logging.DEBUG, "child process died", {"queue": "q", "reason": "SIGSEGV"}),
    (ChildRecycled(queue="q", reason="jobs"), logging.DEBUG, "child process is replaced",
     {"queue": "q", "reason": "jobs"}),
    (JobProgress(**JOB, value={"secret": 1}), logging.DEBUG, "job progress", JOB),
    (QueueDrained(queue="q"), logging.DEBUG, "queue drained", {"queue": "q"}),
    (JobStalled(queue="q", job_id="7"), logging.WARNING, "job stalled", {"queue": "q", "job_id": "7"}),
    (WorkerState(queue="q", state="draining", slots=5), logging.INFO, "worker draining", {"queue": "q", "slots": 5}),
    (WorkerError(queue="q", where="fetch", error=OSError("no redis://u:p@h"), job_id="7"), logging.ERROR,
     "worker error", {"queue": "q", "where": "fetch", "error": "OSError", "job_id": "7", "reason": "no redis://***@h"}),
    (ConnectionChanged(queue="q", up=True, detail="redis://u:p@h"), logging.INFO, "connected to Redis",
     {"queue": "q", "detail": "redis://***@h"}),
    (LoopBlocked(queue="q", task_type="t", job_id="7", blocked_s=0.51234, stack="in parse", over=False),
     logging.WARNING, "the event loop is blocked",
     {"queue": "q", "task_type": "t", "job_id": "7", "blocked_s": 0.512, "stack": "in parse"}),
    (LoopBlocked(queue="q", task_type="t", job_id="7", blocked_s=2.0, stack="", trace_id="a" * 32),
     logging.WARNING, "the event loop was blocked",
     {"queue": "q", "task_type": "t", "job_id": "7", "trace_id": "a" * 32, "blocked_s": 2.0, "stack": ""}),
    (LoopBlocked(queue="unknown", task_type="stopped", job_id="", blocked_s=2.0, stack="(no job's doing)"),
     logging.WARNING, "the event loop was blocked",
     {"queue": "unknown", "task_type": "stopped", "blocked_s": 2.0, "stack": "(no job's doing)"}),
    (ConnectionChanged(queue="q", up=False, detail="reset"), logging.WARNING, "connection to Redis lost",
     {"queue": "q", "detail": "reset"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "level", "text", "fields"), EVENTS, ids=[f"{type(row[0]).__name__}-{row[2]}" for row in EVENTS]
)
def test_each_event_has_its_level_and_fields(event: Event, level: int, text: str, fields: dict[str, Any]) -> None:
    line = line_for(event)
    assert (line.level, line.event, line.fields) == (level, text, fields)


def test_a_trace_id_is_on_the_line_only_where_there_is_one() -> None:
    assert line_for(JobLost(**JOB, **RAN, trace_id="a" * 32)).fields["trace_id"] == "a" * 32
    assert "trace_id" not in line_for(JobLost(**JOB, **RAN)).fields


def test_memory_is_on_the_line_of_a_job_that_had_a_process_of_its_own() -> None:
    done = JobCompleted(**JOB, duration_s=1.0, result=None, memory=JobMemory(40 * 2**20, 39 * 2**20, 64 * 2**20))
    memory = {"memory_before_mb": 40.0, "memory_after_mb": 39.0, "memory_delta_mb": -1.0, "memory_peak_mb": 64.0}
    assert line_for(done).fields == {**JOB, "duration_s": 1.0, **memory}
    lost = JobLost(**JOB, **RAN, memory=JobMemory(2**20, 2**20))
    assert "memory_peak_mb" not in line_for(lost).fields


def test_a_huge_reason_is_cut() -> None:
    line = line_for(JobHandedBack(**JOB, duration_s=1.0, reason="x" * 5_000_000))
    assert len(line.fields["reason"]) < MAX_REASON + 50


class HostileError(Exception):
    def __str__(self) -> str:
        raise KeyError


def test_an_error_that_can_not_be_printed_is_named() -> None:
    line = line_for(WorkerError(queue="q", where="finish", error=HostileError()))
    assert (line.fields["error"], line.fields["reason"]) == ("HostileError", "")


def test_a_repeated_worker_error_shows_its_stack_once_a_minute() -> None:
    now = 100.0
    listener = JobLog(clock=lambda: now)
    with capture_logs() as entries:
        for queue, where in [("q", "fetch"), ("q", "fetch"), ("q", "finish"), ("other", "fetch")]:
            listener(WorkerError(queue=queue, where=where, error=OSError("down")))
        now += STACK_EVERY_S
        listener(WorkerError(queue="q", where="fetch", error=OSError("down")))
    assert ["exc_info" in entry for entry in entries] == [True, False, True, True, True]
    assert [entry["log_level"] for entry in entries] == ["error"] * 5


def test_events_reach_the_log_of_jobs_down_to_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger=LOGGER), capture_logs() as entries:
        for event, *_ in EVENTS:
            JobLog()(event)
    assert [entry["event"] for entry in entries] == [row[2] for row in EVENTS]
    with caplog.at_level(logging.ERROR, logger=LOGGER), capture_logs() as entries:
        for event, *_ in EVENTS:
            JobLog()(event)
    assert [entry["event"] for entry in entries] == ["job failed", "worker error"]

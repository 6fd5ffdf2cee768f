from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    JobProgress,
    JobRetrying,
    JobRung,
    JobStalled,
    QueueDrained,
    WorkerError,
    WorkerState,
)
from workers.dev import board_state
from workers.dev.board_state import BoardState, span


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def job(kind: type[JobEvent], *, job_id: str = "j1", attempt: int = 1, **more: Any) -> Any:
    return kind(queue="email-send", job_id=job_id, job_name="n", task_type="email-send", attempt=attempt, **more)


@pytest.mark.parametrize(
    ("event", "tone", "text"),
    [
        (job(JobActive, wait_s=0.01), "start", "j1 started"),
        (job(JobActive, wait_s=None, attempt=2), "start", "j1 started, attempt 2"),
        (job(JobActive, wait_s=3.0), "start", "j1 started after waiting 3.0 s"),
        (job(JobCompleted, duration_s=0.0124, result={}), "good", "j1 completed in 12 ms"),
        (
            job(JobRetrying, duration_s=1, reason="451 busy", error="E", delay_s=2.1),
            "wait",
            "j1 attempt 1 failed, again in 2.1 s: 451 busy",
        ),
        (job(JobFailed, duration_s=1, reason="550 no", error="E"), "bad", "j1 failed: 550 no"),
        (job(JobRung, rung="pause", after_s=60.01, attempt_of_rung=1), "wait", "j1 takes 1 min 0 s so far: pause"),
        (
            job(JobDelayed, duration_s=1, reason="unknown type", delay_s=90),
            "wait",
            "j1 put off for 1 min 30 s: unknown type",
        ),
        (job(JobHandedBack, duration_s=1, reason="drain"), "wait", "j1 handed back: drain"),
        (job(JobLost, duration_s=1, reason="stalled"), "bad", "j1 lost its lock: stalled"),
        (JobStalled(queue="email-send", job_id="j1"), "bad", "j1 stalled, back in the queue"),
        (WorkerState(queue="email-send", state="running", slots=5), "note", "5 slots running"),
        (
            WorkerError(queue="email-send", where="fetch", error=OSError("gone")),
            "bad",
            "error in fetch: OSError: gone",
        ),
        (ConnectionChanged(queue="email-send", up=True, detail="127.0.0.1"), "good", "connected to Redis: 127.0.0.1"),
        (ConnectionChanged(queue="email-send", up=False, detail="x"), "bad", "lost the connection to Redis: x"),
    ],
)
def test_each_event_is_told_in_a_line(event: Event, tone: str, text: str) -> None:
    line = BoardState().apply(event)
    assert line is not None
    assert (line.tone, line.queue, line.text) == (tone, "email-send", text)


def test_slots_are_busy_from_start_to_whatever_ending() -> None:
    state = BoardState()
    state.apply(WorkerState(queue="email-send", state="running", slots=5))
    for ending in (
        job(JobCompleted, duration_s=1, result=None),
        job(JobFailed, duration_s=1, reason="", error=""),
        job(JobRetrying, duration_s=1, reason="", error="", delay_s=1),
        job(JobDelayed, duration_s=1, reason="", delay_s=1),
        job(JobHandedBack, duration_s=1, reason=""),
        job(JobLost, duration_s=1, reason=""),
    ):
        state.apply(job(JobActive, wait_s=0))
        assert state.apply(job(JobProgress, value=50)) is None
        assert state.apply(QueueDrained(queue="email-send")) is None
        state.apply(job(JobRung, rung="warn", after_s=60, attempt_of_rung=1))
        assert (state.rows["email-send"].busy, state.rows["email-send"].slots) == (1, 5)
        state.apply(ending)
        assert state.rows["email-send"].busy == 0
    state.apply(job(JobLost, duration_s=1, reason="an ending without a start"))
    assert state.rows["email-send"].busy == 0


def test_closed_worker_has_no_slots() -> None:
    state = BoardState()
    state.apply(WorkerState(queue="email-send", state="running", slots=5))
    state.apply(job(JobActive, wait_s=0))
    state.apply(WorkerState(queue="email-send", state="closed", slots=5))
    assert (state.rows["email-send"].busy, state.rows["email-send"].slots) == (0, 0)


def test_rate_counts_what_ended_within_the_last_minute() -> None:
    clock = Clock()
    state = BoardState(clock)
    state.apply(job(JobCompleted, duration_s=1, result=None))
    clock.now += 30
    state.apply(job(JobFailed, duration_s=1, reason="", error=""))
    state.apply(job(JobRetrying, duration_s=1, reason="", error="", delay_s=1))
    row = state.rows["email-send"]
    assert row.per_minute(clock.now) == 2
    assert row.per_minute(clock.now + 31) == 1
    assert row.per_minute(clock.now + 61) == 0
    assert (row.completed, row.retried, row.failed) == (1, 1, 1)


def test_median_is_of_the_last_completed_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    state = BoardState()
    assert state.note("x").text == "x"
    for duration in [9.0] * 300 + [1.0] * board_state.KEPT_DURATIONS:
        state.apply(job(JobCompleted, duration_s=duration, result=None))
    assert state.rows["email-send"].p50_s() == 1.0
    assert board_state.QueueRow().p50_s() is None


def test_memory_stays_bounded_under_many_jobs_and_queues() -> None:
    state = BoardState()
    for number in range(board_state.KEPT_FINISHES + 100):
        state.apply(job(JobCompleted, job_id=str(number), duration_s=1, result="x" * 10))
    for number in range(1000):
        state.apply(JobStalled(queue=f"q{number}", job_id="j"))
    assert len(state.rows["email-send"].finishes) == board_state.KEPT_FINISHES
    assert len(state.lines) == board_state.KEPT_LINES
    assert len(state.rows) <= board_state.QUEUES + 1


def test_huge_ids_and_reasons_are_cut() -> None:
    line = BoardState().apply(job(JobFailed, job_id="i" * 10_000, duration_s=1, reason="r" * 5_000_000, error="E"))
    assert line is not None
    assert len(line.text) < 300


def test_secrets_in_reasons_are_hidden() -> None:
    reason = "535 refused for smtp://user:hunter2@mail.example.com"
    line = BoardState().apply(job(JobFailed, duration_s=1, reason=reason, error="E"))
    assert line is not None
    assert "hunter2" not in line.text


@given(
    st.text(st.characters(exclude_categories=[]), max_size=60),
    st.text(st.characters(exclude_categories=[]), max_size=60),
)
def test_no_control_character_reaches_the_terminal(job_id: str, reason: str) -> None:
    state = BoardState()
    state.apply(job(JobFailed, job_id=job_id, duration_s=1, reason=reason, error="E"))
    state.apply(WorkerError(queue=job_id, where="fetch", error=ValueError(reason)))
    state.note(reason)
    for line in state.lines:
        text = line.queue + line.text
        assert [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")] == []
        assert "\u202e" not in text
        text.encode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.012, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (2.14, "2.1 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (185.2, "3 min 5 s"),
    ],
)
def test_lengths_of_time_read_well(seconds: float, text: str) -> None:
    assert span(seconds) == text

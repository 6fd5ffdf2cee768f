"""Jobs and memory are brought together in windows, and a leak is told once it is sure."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from workers.broker.events import JobActive, JobCompleted, JobEvent, JobFailed, JobProgress
from workers.broker.memory import JobMemory
from workers.runtime.leak import MIN_RUNS, MIN_WINDOWS
from workers.telemetry.leak_watch import ESTIMATE_EVERY_S, LEAK, SURE, WARM_UP, WINDOW_JOBS, WINDOW_S, LeakWatch

MB = 1024 * 1024


class Process:
    """A process with a clock and a size, and what its watch told."""

    def __init__(self) -> None:
        self.now, self.size = 1000.0, 90 * MB
        self.sizes: list[int] = []
        self.slopes: dict[tuple[str, str], float] = {}
        self.readable = True
        self.watch = LeakWatch(
            lambda: self.size if self.readable else None, self.sizes.append, self._told, clock=lambda: self.now
        )
        self.watch.look()

    def _told(self, task_type: str, scope: str, slope: float) -> None:
        self.slopes[task_type, scope] = slope

    def job(self, task_type: str = "mail", *, leak: int = 0, memory: JobMemory | None = None) -> None:
        about: dict[str, Any] = {"queue": "q", "job_id": "7", "job_name": "n", "task_type": task_type, "attempt": 1}
        self.watch(JobActive(**about, wait_s=None))
        self.watch(JobProgress(**about, value=1))
        self.size += leak
        self.watch(JobCompleted(**about, duration_s=1.0, result=None, memory=memory))

    def window(self, jobs: int = WINDOW_JOBS, *, after_s: float = 10.0, **each: Any) -> None:
        for _ in range(jobs):
            self.job(**each)
        self.now += after_s
        self.watch.look()

    def windows(self, number: int, jobs: int = WINDOW_JOBS, **each: Any) -> None:
        for _ in range(number):
            self.window(jobs, **each)


ENOUGH = MIN_WINDOWS + WARM_UP


def test_size_of_the_process_is_told_from_the_beginning() -> None:
    assert Process().sizes == [90 * MB]


@pytest.mark.parametrize(
    ("jobs", "after_s", "read"),
    [
        (WINDOW_JOBS, 0.5, False),
        (WINDOW_JOBS, 1.0, True),
        (WINDOW_JOBS - 1, WINDOW_S - 1, False),
        (1, WINDOW_S, True),
        (0, WINDOW_S, True),
    ],
)
def test_window_ends_with_its_jobs_or_its_time(jobs: int, after_s: float, read: bool) -> None:
    process = Process()
    process.window(jobs, after_s=after_s)
    assert (len(process.sizes) == 2) is read


def test_leak_is_told_by_type_and_warned_of_once_it_is_sure(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.windows(ENOUGH - 1, leak=20 * 1024)
    assert process.slopes == {}, "too few windows"
    process.windows(SURE - 1, leak=20 * 1024)
    assert process.slopes == {("mail", "process"): pytest.approx(20 * 1024 * 1000)}
    assert not caplog.records
    process.windows(1, leak=20 * 1024)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "jobs of type mail leave 19.5 MB behind per 1000" in record.getMessage()
    assert "pools.….memory" in record.getMessage()
    assert process.watch.numbers() == {
        "rss_slope_type": "mail", "rss_slope_bytes": pytest.approx(20_480_000), "rss_slope_scope": "process",
    }  # fmt: skip


def test_warning_comes_again_only_when_the_leak_has_doubled(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.windows(ENOUGH + 50, leak=20 * 1024)
    assert len(caplog.records) == 1
    process.windows(100, leak=30 * 1024)
    assert len(caplog.records) == 1
    process.windows(100, leak=60 * 1024)
    assert len(caplog.records) == 2


def test_small_leak_is_told_and_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.windows(ENOUGH + SURE, leak=LEAK // 2000)
    assert process.slopes == {("mail", "process"): pytest.approx(LEAK / 2, rel=0.01)}
    assert not caplog.records


def test_leak_that_has_ended_is_told_as_zero() -> None:
    process = Process()
    process.windows(ENOUGH, leak=20 * 1024)
    process.windows(60)
    assert process.slopes == {("mail", "process"): 0.0}
    assert process.watch.numbers() == {}


def test_first_jobs_of_a_process_are_left_out() -> None:
    process = Process()
    process.windows(WARM_UP, leak=1 * MB)
    process.windows(MIN_WINDOWS)
    assert process.slopes == {("mail", "process"): 0.0}


def test_growth_while_no_job_runs_is_no_jobs() -> None:
    process = Process()
    for _ in range(ENOUGH):
        process.window()
        process.size += 40 * MB
        process.window(0, after_s=WINDOW_S)
    assert process.slopes == {("mail", "process"): 0.0}


def test_growth_while_a_job_runs_on_is_counted_with_its_end() -> None:
    process = Process()
    about: dict[str, Any] = {"queue": "q", "job_id": "7", "job_name": "n", "task_type": "swarm", "attempt": 1}
    for _ in range(ENOUGH):
        process.watch(JobActive(**about, wait_s=None))
        for _ in range(3):
            process.size += 10 * MB
            process.window(0, after_s=WINDOW_S)
        process.watch(JobFailed(**about, duration_s=90.0, reason="", error="E"))
        process.window(0, after_s=WINDOW_S)
    assert process.slopes == {("swarm", "process"): pytest.approx(30_000 * MB, rel=0.01)}


def test_isolated_jobs_bring_their_own_numbers(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    for _ in range(SURE):
        process.window(MIN_RUNS, after_s=WINDOW_S, task_type="scan", memory=JobMemory(40 * MB, 40 * MB + 16_384))
    assert process.slopes == {("scan", "job"): 16_384_000}
    assert "in their own processes" in caplog.text


def test_isolated_jobs_are_not_counted_among_those_that_share_the_process() -> None:
    process = Process()
    for _ in range(ENOUGH):
        for _ in range(100):
            process.job("scan", memory=JobMemory(40 * MB, 40 * MB))
        process.window(leak=20 * 1024)
    assert process.slopes == {
        ("mail", "process"): pytest.approx(20 * 1024 * 1000),
        ("scan", "job"): 0.0,
    }


def test_memory_that_can_not_be_read_is_no_reason_to_stop() -> None:
    process = Process()
    process.readable = False
    process.windows(5)
    process.readable = True
    process.windows(ENOUGH, leak=20 * 1024)
    assert process.slopes[("mail", "process")] > 0


def test_estimates_are_made_now_and_then_only() -> None:
    process = Process()
    process.windows(ENOUGH - 1)
    before = process.now
    while not process.slopes:
        process.window(after_s=1.0)
    assert process.now - before <= ESTIMATE_EVERY_S


def test_event_of_another_kind_is_nobodys_end() -> None:
    process = Process()
    process.watch(JobEvent(queue="q", job_id="7", job_name="n", task_type="t", attempt=1))
    process.window(0, after_s=WINDOW_S)
    assert process.slopes == {}

"""What a process knows of its own jobs and its memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import psutil
import pytest

from workers.broker import events
from workers.broker.events import JobActive, JobEvent
from workers.runtime.isolation import left_behind
from workers.runtime.supervision import vitals as module
from workers.runtime.supervision.beat import MAX_EXTRA, MAX_RUNNING, MAX_TEXT, Report, RunningJob
from workers.runtime.supervision.vitals import Vitals

ENDS: dict[type[JobEvent], dict[str, Any]] = {
    events.JobCompleted: {"result": None},
    events.JobFailed: {"reason": "r", "error": "E"},
    events.JobRetrying: {"reason": "r", "error": "E", "delay_s": 1.0},
    events.JobDelayed: {"reason": "r", "delay_s": 1.0},
    events.JobHandedBack: {"reason": "r"},
    events.JobLost: {"reason": "r"},
}


class Clock:
    """Seconds by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    return Vitals(lambda: 0.25, clock)


def event(kind: type[JobEvent], job_id: str = "1", queue: str = "q", **fields: Any) -> Any:
    return kind(queue=queue, job_id=job_id, job_name="n", task_type="t", attempt=1, **fields)


def test_running_job_is_named_with_its_time(vitals: Vitals, clock: Clock) -> None:
    vitals(event(JobActive, wait_s=None))
    clock.now += 7
    report = vitals.report()
    assert report.running == (RunningJob("q", "t", "1", 7.0),)
    assert (report.active, report.jobs, report.uptime_s, report.lag_s) == (1, 0, 7.0, 0.25)


@pytest.mark.parametrize("kind", ENDS)
def test_every_ending_counts_and_frees_the_slot(vitals: Vitals, kind: type[JobEvent]) -> None:
    vitals(event(JobActive, wait_s=None))
    vitals(event(JobActive, job_id="1", queue="another", wait_s=None))
    vitals(event(kind, duration_s=1.0, **ENDS[kind]))
    report = vitals.report()
    assert (report.jobs, report.active) == (1, 1)
    assert [job.queue for job in report.running] == ["another"]


def test_every_kind_of_ending_is_known() -> None:
    """A new event of a job must say whether it is one."""
    others = {JobActive, events.JobProgress, events.JobRung}
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, JobEvent)}
    assert kinds - others - {JobEvent} == set(module._ENDS)


def test_end_without_a_start_harms_nothing(vitals: Vitals) -> None:
    vitals(event(events.JobCompleted, duration_s=1.0, result=None))
    assert (vitals.report().jobs, vitals.report().active) == (1, 0)


def test_of_many_jobs_the_longest_are_named(vitals: Vitals, clock: Clock) -> None:
    for number in range(3 * MAX_RUNNING):
        vitals(event(JobActive, job_id=f"{number}" + "x" * 1000, wait_s=None))
        clock.now += 1
    report = vitals.report()
    assert report.active == 3 * MAX_RUNNING
    assert [job.job_id[:2].strip("x") for job in report.running] == [f"{number}" for number in range(MAX_RUNNING)]
    assert all(len(job.job_id) == MAX_TEXT for job in report.running)


def test_others_add_what_they_know_and_no_more_than_fits(vitals: Vitals) -> None:
    vitals.add(lambda: {"loop_blocks": 3.0, "last": "x" * 1000})
    vitals.add(lambda: {"leak": 1.5})
    said = vitals.report().extra
    assert said["loop_blocks"] == 3.0
    assert said["leak"] == 1.5
    assert len(str(said["last"])) == MAX_TEXT


class Left:
    """Runs that were left behind."""

    def __init__(self, queue: str, runs: int) -> None:
        self.told = queue, runs

    def left_behind(self) -> tuple[str, int]:
        return self.told


def test_runs_left_behind_are_told_while_there_are_any(vitals: Vitals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_behind, "_sources", WeakSet())
    assert module.LEFT_BEHIND not in vitals.report().extra
    queues = [Left("q", 2), Left("r", 1), Left("", 0)]
    for queue in queues:
        left_behind.watch(queue)
    for number in range(3 * MAX_EXTRA):
        vitals.add(lambda number=number: {f"other {number}": 1.0})  # type: ignore[misc]
    assert module.left_behind(vitals.report()) == 3
    queues[0].told = "q", 0
    assert left_behind.counts() == {"q": 0, "r": 1}
    del queues, queue
    assert module.left_behind(vitals.report()) == 0


@pytest.mark.parametrize(("said", "number"), [(3, 3), (3.0, 3), (-1, 0), ("many", 0)])
def test_number_of_runs_left_behind_is_heard_as_one(said: Any, number: int) -> None:
    assert module.left_behind(Report(extra={module.LEFT_BEHIND: said})) == number


@pytest.fixture
def child() -> Iterator[psutil.Process]:
    """A child with a child of its own."""
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE)
    yield psutil.Process(process.pid)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(20)


def test_memory_is_that_of_the_process_and_apart_from_it_of_its_children(
    vitals: Vitals, child: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHILDREN_EVERY_S", 0.0)
    while not child.children():
        continue
    report = vitals.report()
    own = psutil.Process().memory_info().rss
    assert abs(report.rss - own) < 64 * 1024**2
    assert report.children == 2
    assert report.children_rss > 0


def test_children_are_counted_now_and_then(vitals: Vitals, clock: Clock, child: psutil.Process) -> None:
    while not child.children():
        continue
    assert vitals.report().children == 2
    child.children()[0].kill()
    clock.now += module.CHILDREN_EVERY_S - 0.1
    assert vitals.report().children == 2
    while vitals.report().children == 2:  # whoever is its parent may take notice late
        clock.now += module.CHILDREN_EVERY_S

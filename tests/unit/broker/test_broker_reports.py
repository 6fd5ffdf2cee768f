"""Each ending has its event; errors are told, and once that Redis is away or back."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import INVALID_SPAN

from workers.broker.activation import parse
from workers.broker.endings import (
    AwaitingChildren,
    Completed,
    Delayed,
    Ending,
    Failed,
    HandedBack,
    Lost,
    RateLimited,
    Requeued,
    Retry,
)
from workers.broker.events import (
    ConnectionChanged,
    Event,
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
    WorkerError,
)
from workers.broker.reports import Reports, ended

ABOUT: dict[str, Any] = {
    "queue": "q",
    "job_id": "7",
    "job_name": "n",
    "task_type": "t",
    "attempt": 2,
    "trace_id": "abc",
}


@pytest.mark.parametrize(
    ("ending", "event"),
    [
        (Completed(result=[1]), JobCompleted(**ABOUT, duration_s=1.5, result=[1])),
        (Failed(reason="r", error="E", stack="s"), JobFailed(**ABOUT, duration_s=1.5, reason="r", error="E")),
        (
            Retry(reason="r", error="E", delay_ms=250),
            JobRetrying(**ABOUT, duration_s=1.5, reason="r", error="E", delay_s=0.25),
        ),
        (Delayed(delay_ms=500, reason="r"), JobDelayed(**ABOUT, duration_s=1.5, reason="r", delay_s=0.5)),
        (RateLimited(delay_ms=500, reason="r"), JobDelayed(**ABOUT, duration_s=1.5, reason="r", delay_s=0.5)),
        (Requeued(reason="r"), JobDelayed(**ABOUT, duration_s=1.5, reason="r", delay_s=0)),
        (AwaitingChildren(reason="r"), JobDelayed(**ABOUT, duration_s=1.5, reason="r", delay_s=0)),
        (HandedBack(reason="r"), JobHandedBack(**ABOUT, duration_s=1.5, reason="r")),
        (Lost(reason="r"), JobLost(**ABOUT, duration_s=1.5, reason="r")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ending_is_reported_as_its_event(ending: Ending, event: JobEvent) -> None:
    assert ended(ending, ABOUT, 1.5) == event


def told_by() -> tuple[Reports, list[Event]]:
    events: list[Event] = []
    return Reports("q", events.append, frozenset({"email-send"}), lambda error: isinstance(error, OSError)), events


@pytest.mark.parametrize(("type_", "label"), [("email-send", "email-send"), ("made up by a producer", "unknown")])
def test_only_known_task_types_become_labels(type_: str, label: str) -> None:
    reports, _ = told_by()
    job = parse("q", "7", {"name": "n", "data": f'{{"type": "{type_}"}}', "atm": "1"}, "token")
    about = reports.about(job, INVALID_SPAN)
    assert {**about, "trace_id": "abc"} == {**ABOUT, "task_type": label}


def test_lost_connection_is_told_once_and_so_is_its_return() -> None:
    reports, events = told_by()
    away = OSError("away")
    reports.up()
    for _ in range(2):
        reports.error(away, "fetch", "7")
    seen = [reports.is_up]
    for _ in range(2):
        reports.up()
        seen.append(reports.is_up)
    assert seen == [False, True, True]
    error = WorkerError(queue="q", where="fetch", error=away, job_id="7")
    assert events == [
        error,
        ConnectionChanged(queue="q", up=False, detail="away"),
        error,
        ConnectionChanged(queue="q", up=True, detail=""),
    ]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_other_errors_say_nothing_about_the_connection(error: BaseException) -> None:
    reports, events = told_by()
    reports.error(error, "execute")
    assert events == [WorkerError(queue="q", where="execute", error=error)]
    assert reports.is_up

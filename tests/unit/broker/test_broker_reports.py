"""Each ending has its event."""

from __future__ import annotations

from typing import Any

import pytest

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
    JobCompleted,
    JobDelayed,
    JobEvent,
    JobFailed,
    JobHandedBack,
    JobLost,
    JobRetrying,
)
from workers.broker.reports import ended

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

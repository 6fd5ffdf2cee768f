"""How a task is, from what its job's data and BullMQ say."""

from __future__ import annotations

import json

import pytest

from tasks.status import TaskStatus
from workers.broker.children_reader import Child, Children
from workers.broker.job_view import JobKey, view
from workers.queue_service.task_details import TaskDetails


def details(state: str, status: str | None = None, **row: str) -> TaskDetails:
    data = {"id": "7"} | ({} if status is None else {"status": status})
    job = view("run-start", "task-7", {"data": json.dumps(data), **row}, state=state)
    child = Child(JobKey.of("bull:email-send:a:b", "bull"), {"sent": 1})
    return TaskDetails(job=job, logs=3, children={"processed": Children(1, (child,), None)})


@pytest.mark.parametrize(
    ("state", "said", "status", "node"),
    [
        ("waiting", None, TaskStatus.SCHEDULED, "Waiting"),
        ("paused", None, TaskStatus.SCHEDULED, "Waiting"),
        ("active", "Scheduled", TaskStatus.RUNNING, "Scheduled"),  # Node never changes what it wrote
        ("completed", "Scheduled", TaskStatus.COMPLETED, "Scheduled"),
        ("failed", "Canceling", TaskStatus.FAILED, "Canceling"),
        ("waiting", "suggested", TaskStatus.SUGGESTED, "Suggested"),
        ("active", "canceling", TaskStatus.CANCELING, "Canceling"),
        ("delayed", "Paused", TaskStatus.PAUSED, "Paused"),
        ("waiting-children", None, TaskStatus.RUNNING, "Waiting-children"),
        ("prioritized", "nonsense", TaskStatus.SCHEDULED, "Nonsense"),
        ("unknown", "Running", None, None),
    ],
)
def test_status(state: str, said: str | None, status: TaskStatus | None, node: str | None) -> None:
    found = details(state, said)
    assert (found.status, found.node_status) == (status, node)


def test_output_names_what_the_documentation_promises() -> None:
    found = details("failed", timestamp="1800000000000", failedReason="no", stacktrace='["a"]', atm="2").json()
    assert found["id"] == "7" and found["jobId"] == "task-7" and found["status"] == "Failed"
    assert found["createdAt"] == "2027-01-15T08:00:00.000Z" and found["processedAt"] is None
    assert found["attempts"] == {"made": 2, "started": 0, "of": 1}
    assert (found["failedReason"], found["stacktrace"], found["logs"]) == ("no", ["a"], 3)
    assert found["children"]["processed"]["items"] == [
        {"key": "bull:email-send:a:b", "queueName": "email-send", "id": "a:b", "value": {"sent": 1}}
    ]
    json.dumps(found, allow_nan=False)


def test_time_that_no_calendar_has_is_none() -> None:
    assert details("waiting", timestamp="9007199254740991").json()["createdAt"] is None

"""Whose task it is, and what a change of its status means: Node's rules, without what keeps them from working there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.status import TaskStatus
from workers.queue_service import cancellation, task_status
from workers.queue_service.actor import Actor
from workers.queue_service.errors import InvalidRequestError, RefusedError, UnknownJobError

OWNERS: dict[str, tuple[Any, str | None]] = {
    "userId": ({"userId": "u1"}, "u1"),
    "startedById": ({"startedById": "u1"}, "u1"),
    "userData": ({"userData": {"id": "u1"}}, "u1"),
    "a swarm's request": ({"input": {"userData": {"id": "u1"}}}, "u1"),
    "a run's context": ({"context": {"userData": {"id": "u1"}}, "input": {}}, "u1"),
    "a run's request": ({"input": {"startedById": "u1"}}, "u1"),
    "as Node, the top first": ({"userId": "u1", "startedById": "u2", "userData": {"id": "u3"}}, "u1"),
    "then startedById": ({"startedById": "u2", "userData": {"id": "u3"}}, "u2"),
    "the top before the request": ({"userData": {"id": "u3"}, "input": {"userData": {"id": "u4"}}}, "u3"),
    "input before context": ({"input": {"userData": {"id": "a"}}, "context": {"userData": {"id": "b"}}}, "a"),
    "null is none": ({"userId": None, "startedById": "u2"}, "u2"),
    "empty is none": ({"userId": "", "userData": {"id": "u3"}}, "u3"),
    "a number is none": ({"userId": 5}, None),
    "a list is none": ({"userId": ["u1"], "userData": ["id"]}, None),
    "nobody's": ({"id": "1"}, None),
    "no object": ([1], None),
    "unreadable": (None, None),
}


@pytest.mark.parametrize(("data", "owner"), OWNERS.values(), ids=OWNERS)
def test_owner_of_a_task(data: Any, owner: str | None) -> None:
    assert task_status.owner_of(data) == owner
    if owner is not None:
        task_status.check_owner(data, owner, "task 1")
    for other in ("u9", ""):
        with pytest.raises(RefusedError, match="task 1 is not yours"):
            task_status.check_owner(data, other, "task 1")


@pytest.mark.parametrize("status", TaskStatus)
def test_status_is_known_in_whatever_case(status: TaskStatus) -> None:
    for said in (status, status.lower(), status.upper()):
        assert task_status.status_named(said) is status


@pytest.mark.parametrize("said", ["", "Waiting-children", "Cancelled", "running "])
def test_other_words_are_refused(said: str) -> None:
    with pytest.raises(InvalidRequestError, match="status: expected one of Canceling, Completed"):
        task_status.status_named(said)


@pytest.mark.parametrize("status", TaskStatus)
def test_missing_task_is_as_it_should_be_where_it_was_to_be_over(status: TaskStatus) -> None:
    if status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SUGGESTED):
        change = task_status.missing("7", status)
        assert (change.outcome, change.job_id, change.queue) == ("gone", None, None)
        return
    with pytest.raises(UnknownJobError):
        task_status.missing("7", status)


def test_missing_task_of_a_hostile_name_is_named_on_one_line() -> None:
    with pytest.raises(UnknownJobError) as unknown:
        task_status.missing("\x1b[2J\n" * 1000, TaskStatus.RUNNING)
    assert str(unknown.value).isprintable() and len(str(unknown.value)) < 200


@pytest.mark.parametrize(
    ("task_id", "ids"),
    [
        ("abc", ["abc"]),
        ("12", ["task-12", "12"]),
        ("u:reset-password", ["u:reset-password", "u-reset-password"]),
        ("0:5", ["task-0:5", "task-0-5", "0:5"]),
    ],
)
def test_ids_under_which_a_task_may_be(task_id: str, ids: list[str]) -> None:
    assert task_status.job_ids(task_id) == ids


def test_queues_by_the_names_of_nodes_endpoints() -> None:
    assert task_status.queues_named("swarm") == ("llm-completion", "swarm-execution")
    assert task_status.queues_named("run") == ("run-start",)
    assert task_status.queues_named("run-start") == ("run-start",)


def test_status_is_written_in_lower_case_and_nothing_else_changes() -> None:
    text = '{"status":"Scheduled", "n":1.0}'
    assert task_status.written(text, TaskStatus.PAUSED) == '{"status":"paused", "n":1.0}'
    assert task_status.written("{}", TaskStatus.PAUSED) == '{"status":"paused"}'
    assert task_status.written("[1]", TaskStatus.PAUSED) == "[1]"


@pytest.mark.parametrize(
    ("status", "ended", "asked"),
    [(TaskStatus.CANCELING, "failed", "canceling"), (TaskStatus.SUGGESTED, "suggested", "suggested")],
)
def test_task_that_is_to_stop_says_so_and_then_how_it_ended(status: TaskStatus, ended: str, asked: str) -> None:
    texts = task_status.stop_texts('{"status":"Running"}', status)
    assert [json.loads(text)["status"] for text in texts] == [ended, asked]


def test_cancelled_job_says_by_whom_and_why_on_one_line() -> None:
    assert cancellation.reason_of(Actor("ann"), "") == "cancelled by ann"
    assert cancellation.reason_of(Actor("ann"), " two\nlines \t ") == "cancelled by ann: two lines"
    long = cancellation.reason_of(Actor("\x1b[31m" + "n" * 500), "x" * 10_000)
    assert long.isprintable() and len(long) < 700
    assert cancellation.texts('{"status":"Running"}') == ('{"status":"Failed"}', '{"status":"Canceling"}')
    assert cancellation.texts('{"a":1}') == ("", '{"a":1,"status":"Canceling"}')
    assert cancellation.texts("[1]") == ("", "")

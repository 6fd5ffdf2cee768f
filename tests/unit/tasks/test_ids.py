"""Ids as Node gives them (node-stack, 1.3), and what BullMQ would refuse or misread."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.email_send import EmailSend
from tasks.ids import MAX_CHARS, job_id, job_id_for, task_id_of

NAMED = [
    ("614402200001001", "task-614402200001001"),
    ("0", "task-0"),
    ("-5", "task--5"),
    ("a7k2m9q4x1zb", "a7k2m9q4x1zb"),
    ("k3j9x0ab12cd:reset-password", "k3j9x0ab12cd:reset-password"),
    ("+15555550123-839201", "+15555550123-839201"),
    ("0:1", "task-0:1"),
    ("00:1", "00:1"),
    ("1.5", "1.5"),
    ("٧", "٧"),
    ("task-7", "task-7"),
    ("x" * MAX_CHARS, "x" * MAX_CHARS),
    ("", None),
]


@pytest.mark.parametrize(("task_id", "named"), NAMED)
def test_id_of_a_job_is_its_tasks_but_for_digits(task_id: str, named: str | None) -> None:
    assert job_id(task_id) == named


@pytest.mark.parametrize("task_id", ["x" * (MAX_CHARS + 1), "\ud800", "7" * 10_000])
def test_what_cannot_be_an_id_is_known_by_its_digest(task_id: str) -> None:
    named = job_id(task_id)
    assert named is not None
    assert re.fullmatch("key-[0-9a-f]{64}", named)
    assert job_id(task_id) == named != job_id(f"{task_id}x")


def test_child_of_a_flow_has_no_colon() -> None:
    assert job_id("a:b:c", child=True) == "a-b-c"


def mail(**fields: Any) -> EmailSend:
    return EmailSend(**{"id": "7", "to": ["a@x.org"], "subject": "s", "text": "t", **fields})


def test_idempotency_key_comes_before_the_id() -> None:
    assert job_id_for(mail()) == "task-7"
    assert job_id_for(mail(idempotency_key="order-1")) == "order-1"
    assert job_id_for(mail(idempotency_key="1")) == "task-1"
    assert job_id_for(mail(idempotency_key="")) == "task-7"
    assert job_id_for(mail(id="")) is None


@pytest.mark.parametrize(
    ("job", "data", "task"),
    [
        ("task-7", None, "7"),
        ("task-7", {"id": "8"}, "8"),
        ("12", {"id": "614402200000001"}, "614402200000001"),  # Node's raw add: BullMQ counts
        ("order-1", {"idempotencyKey": "order-1"}, "order-1"),
        ("task-7", {"id": 7}, "7"),
        ("task-7", {"id": ""}, "7"),
        ("task-7", [], "7"),
        ("task-force", None, "task-force"),
        ("plain", {}, "plain"),
    ],
)
def test_task_of_a_job_is_what_its_data_say(job: str, data: Any, task: str) -> None:
    assert task_id_of(job, data) == task


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(), max_size=40) | st.integers().map(str) | st.from_regex(r"0:[0-9]{0,3}", fullmatch=True))
def test_every_id_is_one_that_bullmq_takes(task_id: str) -> None:
    named = job_id(task_id)
    if named is None:
        assert not task_id
        return
    named.encode()
    assert not re.fullmatch(r"-?[0-9]+", named)
    assert not named.startswith("0:")
    if not named.startswith("key-") and not task_id.startswith("task-"):
        assert task_id_of(named) == task_id

"""New data for a job: written as Node writes them, and refused where the job would fail with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.schema import FleetConfig
from workers.queue_service.data_check import MAX_TOLD, DataCheck
from workers.queue_service.errors import InvalidRequestError

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}


@pytest.fixture
def check() -> DataCheck:
    entry: dict[str, Any] = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}}
    entry |= {"max_data": 1000, "max_depth": 5, "max_chars": 300}
    config = FleetConfig.model_validate({"pools": {"p": {}}, "queues": {"email-send": entry}})
    return DataCheck(config.queues)


def test_text_is_as_node_writes_it(check: DataCheck) -> None:
    assert check.text("email-send", MAIL) == json.dumps(MAIL, separators=(",", ":"))
    assert "é😀" in check.text("email-send", {**MAIL, "subject": "é😀"})
    assert "\\ud800" in check.text("email-send", {**MAIL, "subject": "\ud800"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({**MAIL, "to": 5}, "to"),
        ({**MAIL, "x": {1}}, "no JSON"),
        ({**MAIL, "x": float("nan")}, "no JSON"),
        ({**MAIL, "text": "x" * 2000}, "2,0"),
        ({**MAIL, "x": [[[[[1]]]]]}, "5 levels"),
        ({**MAIL, "x": "y" * 300}, "300 characters"),
        ({"type": "nobody-knows"}, "nobody-knows"),
        ({"id": "7"}, "type"),
        ({"type": 5}, "type"),
    ],
)
def test_what_would_fail_is_refused(check: DataCheck, data: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check.text("email-send", data, before=MAIL)
    assert refused.value.field.partition(".")[0] == "data"
    assert words in str(refused.value)
    assert len(str(refused.value)) < MAX_TOLD + 50


def test_value_that_refers_to_itself_is_no_json(check: DataCheck) -> None:
    loop: dict[str, Any] = {**MAIL}
    loop["self"] = loop
    with pytest.raises(InvalidRequestError, match="no JSON"):
        check.text("email-send", loop)


@pytest.mark.parametrize(
    ("data", "before"),
    [
        ({"type": "theirs", "a": 1}, {"type": "theirs"}),
        ([1, 2], [1]),
        ({"a": 1}, [1]),
        ("x", None),
        (None, "text"),
        (5, None),
    ],
)
def test_what_never_was_a_task_of_ours_may_be_changed(check: DataCheck, data: Any, before: Any) -> None:
    assert json.loads(check.text("elsewhere", data, before=before)) == data


@pytest.mark.parametrize(
    ("data", "before"),
    [([1], MAIL), ({"type": "theirs"}, MAIL), ({"type": "theirs"}, {"type": "others"})],
)
def test_task_does_not_become_something_else(check: DataCheck, data: Any, before: Any) -> None:
    with pytest.raises(InvalidRequestError):
        check.text("email-send", data, before=before)

"""Notifications on the wire: Node's come back as they were, and what can't be stored is refused by its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.codec import DecodeError, decode, encode
from tasks.notification_create import NotificationCreate

EXAMPLES = json.loads((Path(__file__).parents[3] / "workers/dev/example_jobs.json").read_text())
NODES = [each["data"] for each in EXAMPLES if each["data"]["type"] == "notification-create"]
LEAST: dict[str, Any] = {"type": "notification-create", "id": "7", "userId": "8", "category": "Award", "title": ""}


@pytest.mark.parametrize("data", NODES)
def test_nodes_notifications_come_back_as_they_were(data: dict[str, Any]) -> None:
    task = decode(data)
    assert isinstance(task, NotificationCreate)
    assert (task.user_id, task.send_web_socket_event) == (data["userId"], data["sendWebSocketEvent"])
    assert encode(task) == data


def test_what_is_optional_may_be_absent_or_null() -> None:
    assert encode(decode(LEAST)) == LEAST
    null = {**LEAST, "description": None, "link": None, "imgLink": None, "sendWebSocketEvent": None}
    assert encode(decode(null)) == null


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": "x7"}, 'data.id: expected a snowflake in digits, found "x7" (string)'),
        ({"id": "٧"}, 'data.id: expected a snowflake in digits, found "\\u0667" (string)'),
        ({"id": "-7"}, 'data.id: expected a snowflake in digits, found "-7" (string)'),
        (
            {"id": "9223372036854775808"},
            'data.id: expected a snowflake in digits, found "9223372036854775808" (string)',
        ),
        ({"id": 7}, "data.id: expected a string, found 7 (integer)"),
        ({"userId": ""}, 'data.userId: expected an id, found "" (string)'),
        ({"userId": None}, "data.userId: expected a string, found null"),
        ({"title": None}, "data.title: expected a string, found null"),
        ({"sendWebSocketEvent": "yes"}, 'data.sendWebSocketEvent: expected true or false, found "yes" (string)'),
    ],
)
def test_notification_that_cannot_be_stored_is_refused_by_its_field(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode({**LEAST, **change})
    assert str(refused.value) == problem


@pytest.mark.parametrize("name", ["id", "userId", "category", "title"])
def test_required_field_is_missed(name: str) -> None:
    with pytest.raises(DecodeError, match=rf"data\.{name}: expected a string, found nothing"):
        decode({key: value for key, value in LEAST.items() if key != name})


def test_largest_key_of_the_table_is_taken() -> None:
    assert decode({**LEAST, "id": str(2**63 - 1)}).id == "9223372036854775807"

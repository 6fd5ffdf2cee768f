"""Entries of BullMQ's event streams are read as npm bullmq's QueueEvents reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.event_stream import MAX_VALUE, event, order


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"event": "completed", "jobId": "1", "returnvalue": '{"a":1}', "prev": "active"}, {"returnvalue": {"a": 1}}),
        ({"event": "completed", "jobId": "1", "returnvalue": "undefined"}, {"returnvalue": "undefined"}),
        ({"event": "progress", "jobId": "1", "data": "55"}, {"data": 55}),
        ({"event": "progress", "jobId": "1", "data": "[" * 9000}, {"data": "[" * 9000}),
        ({"event": "delayed", "jobId": "1", "delay": "1700000000000"}, {"delay": 1_700_000_000_000}),
        ({"event": "delayed", "jobId": "1", "delay": "soon"}, {"delay": "soon"}),
        ({"event": "failed", "jobId": "1", "failedReason": "5"}, {"failedReason": "5"}),
        ({"event": "waiting", "jobId": "1", "prev": "delayed"}, {"prev": "delayed"}),
    ],
)
def test_values_are_those_that_node_hands_on(said: dict[str, str], fields: dict[str, Any]) -> None:
    told = event("q", "1700000000000-4", said)
    assert (told.queue, told.id, told.event, told.job_id, told.at_ms) == (
        *("q", "1700000000000-4", said["event"], "1"),
        1_700_000_000_000,
    )
    assert {name: told.fields[name] for name in fields} == fields
    assert told.json()["queueName"] == "q"


def test_event_without_a_job_and_entry_without_an_event() -> None:
    assert event("q", "1-0", {"event": "drained"}).job_id is None
    assert event("q", "1-0", {"a": "b"}).json() == {
        "a": "b",
        "queueName": "q",
        "event": "",
        "id": "1-0",
        "jobId": None,
        "timestamp": 1,
    }


def test_field_never_hides_what_the_event_is() -> None:
    told = event("q", "1-0", {"event": "added", "jobId": "1", "queueName": "other", "id": "9", "timestamp": "0"})
    assert (told.json()["queueName"], told.json()["id"], told.json()["timestamp"]) == ("q", "1-0", 1)


def test_long_values_are_cut() -> None:
    told = event("q", "1-0", {"event": "completed", "returnvalue": json.dumps("x" * 10 * MAX_VALUE)})
    assert len(told.fields["returnvalue"]) == MAX_VALUE and told.fields["returnvalue"].endswith("…")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["event", "jobId", "data", "returnvalue", "delay", "x"]), st.text()))
def test_no_entry_is_an_error(said: dict[str, str]) -> None:
    json.dumps(event("q", "1-0", said).json())


def test_ids_are_compared_by_number() -> None:
    assert order("9-1") < order("10-0") < order("10-9") < order("10-10")
    assert order("10") == order("10-0")


@pytest.mark.parametrize("bad", ["", "$", "+", "-", "1-", "-1", "a-b", "1-0-0", "1" * 21, "١-٠", "1\n"])
def test_what_is_no_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not an id of an event"):
        order(bad)

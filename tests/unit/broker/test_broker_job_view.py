"""Rows are shown as Node shows them; rows that nobody should have written are shown with what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.job_scripts import FIELDS
from workers.broker.job_view import JobKey, trace_id, view

ADDED = 1_800_000_000_000
CARRIER = json.dumps({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
ROW = {
    "name": "email-send",
    "data": '{"type":"email-send","id":"123","userId":"7","to":["a@example.com"]}',
    "opts": json.dumps({"attempts": 5, "delay": 2000, "de": {"id": "x"}, "fpof": True, "tm": CARRIER, "omc": True}),
    "timestamp": str(ADDED),
    "delay": "0",
    "priority": "7",
    "progress": '{"progress":0.5}',
    "atm": "2",
    "ats": "3",
    "stc": "1",
    "processedOn": str(ADDED + 5000),
    "finishedOn": str(ADDED + 6000),
    "failedReason": "no such host",
    "stacktrace": '["Error: first","Error: second"]',
    "returnvalue": '{"sent":1}',
    "parent": '{"id":"p:1","queueKey":"bull:run-start"}',
    "pb": "mailer@host",
    "deid": "x",
    "rjk": "every-minute",
}


def test_row_is_shown_in_full() -> None:
    seen = view("email-send", "task-123", ROW, state="failed")
    assert not seen.problems
    assert seen.json() == {
        "id": "task-123",
        "name": "email-send",
        "queueName": "email-send",
        "state": "failed",
        "taskId": "123",
        "taskType": "email-send",
        "data": {"type": "email-send", "id": "123", "userId": "7", "to": ["a@example.com"]},
        "opts": {
            "attempts": 5,
            "delay": 2000,
            "deduplication": {"id": "x"},
            "failParentOnFailure": True,
            "telemetry": {"metadata": CARRIER, "omitContext": True},
        },
        "progress": {"progress": 0.5},
        "priority": 7,
        "delay": 0,
        "attemptsMade": 2,
        "attemptsStarted": 3,
        "attempts": 5,
        "stalledCounter": 1,
        "timestamp": ADDED,
        "dueOn": ADDED + 2000,
        "processedOn": ADDED + 5000,
        "finishedOn": ADDED + 6000,
        "failedReason": "no such host",
        "deferredFailure": None,
        "stacktrace": ["Error: first", "Error: second"],
        "returnvalue": {"sent": 1},
        "parent": {"key": "bull:run-start:p:1", "queueName": "run-start", "id": "p:1"},
        "processedBy": "mailer@host",
        "deduplicationId": "x",
        "repeatJobKey": "every-minute",
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "truncated": {},
        "problems": [],
    }


def test_empty_row_has_bullmqs_defaults() -> None:
    seen = view("q", "5", {})
    assert (seen.data, seen.opts, seen.progress, seen.attempts, seen.returnvalue) == ({}, {}, 0, 1, None)
    assert (seen.task_id, seen.task_type, seen.state, seen.added_ms, seen.due_ms) == ("5", "", "unknown", None, None)
    assert not seen.problems


@pytest.mark.parametrize(
    ("row", "told", "shown"),
    [
        ({"data": "{nope"}, "data: not JSON", {"data": "{nope", "task_id": "9", "task_type": ""}),
        ({"data": '{"a": NaN}'}, "data.a: expected a finite number", {"data": '{"a": NaN}'}),
        ({"data": "[" * 100_000}, "data: ", {"data": "[" * 100_000}),
        ({"data": "[1]"}, "", {"data": [1], "task_type": ""}),
        ({"data": '{"type": 5, "id": 6}'}, "", {"task_type": "", "task_id": "9"}),
        ({"opts": "[]"}, "opts: expected an object", {"opts": {}, "attempts": 1}),
        ({"opts": "nope"}, "opts: not JSON", {"opts": {}}),
        ({"opts": '{"attempts": "many", "delay": true}'}, "", {"attempts": 1}),
        ({"opts": '{"attempts": 1e400}'}, "opts.attempts: expected a finite number", {"attempts": 1}),
        ({"opts": '{"telemetry": 5, "tm": 6}'}, "", {"trace_id": None}),
        ({"progress": "half"}, "progress: not JSON", {"progress": "half"}),
        (
            {"atm": "two", "attemptsMade": "three"},
            'attemptsMade: expected a number, found "three"',
            {"attempts_made": 0},
        ),
        ({"ats": "\x1b[31m"}, 'ats: expected a number, found "\\u001b[31m"', {"attempts_started": 0}),
        ({"timestamp": "yesterday"}, "timestamp: expected a number", {"added_ms": None, "due_ms": None}),
        ({"timestamp": "-5"}, "", {"added_ms": 0}),
        ({"timestamp": "1e999"}, "timestamp: expected a number", {"added_ms": None}),
        ({"stacktrace": "{}"}, "stacktrace: expected a list", {"stacktrace": ()}),
        ({"stacktrace": "Error"}, "stacktrace: not JSON", {"stacktrace": ("Error",)}),
        ({"stacktrace": '[1, "a", null]'}, "", {"stacktrace": ("1", "a", "null")}),
        ({"returnvalue": "undefined"}, "returnvalue: not JSON", {"returnvalue": "undefined"}),
        ({"parent": "{}"}, "parent: expected an object with id and queueKey", {"parent": None}),
        ({"parent": '{"id": 1, "queueKey": "bull:q"}'}, "parent: expected", {"parent": None}),
        ({"parentKey": "bull:q:a:b"}, "", {"parent": JobKey("bull:q:a:b", "q", "a:b")}),
        ({"parent": '{"id":"1","queueKey":"other:q"}'}, "", {"parent": JobKey("other:q:1", None, "1")}),
    ],
)
def test_hostile_row_is_shown_with_its_problem(row: dict[str, str], told: str, shown: dict[str, Any]) -> None:
    seen = view("q", "9", row)
    assert {name: getattr(seen, name) for name in shown} == shown
    assert len(seen.problems) == bool(told)
    assert all(told in problem for problem in seen.problems)
    json.dumps(seen.json(), allow_nan=False)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), st.text() | st.just('{"a":[1]}') | st.just("[]") | st.just("12")))
def test_no_row_is_an_error(row: dict[str, str]) -> None:
    json.dumps(view("q", "1", row, state="active").json(), allow_nan=False)


def test_field_that_is_not_whole_is_shown_as_text_and_not_read() -> None:
    seen = view("q", "task-5", {"data": '{"id":"6', "opts": '{"attempts":9'}, cut={"data": 900, "opts": 77})
    assert (seen.data, seen.task_id, seen.opts, seen.problems) == ('{"id":"6', "5", {}, ())
    assert seen.json()["truncated"] == {"data": 900, "opts": 77}


def test_large_values_are_shortened_for_lists() -> None:
    row = {"data": json.dumps({"id": "x", "text": "é" * 500}, ensure_ascii=False), "returnvalue": '"short"'}
    seen = view("q", "1", row)
    short = seen.shortened(100)
    assert short.data == row["data"][:100] and short.cut == {"data": len(row["data"].encode())}
    assert short.task_id == "x" and short.returnvalue == "short"
    assert seen.shortened(10_000) is seen
    already = view("q", "1", {"data": "x" * 300}, cut={"data": 5_000_000}).shortened(100)
    assert already.data == "x" * 100 and already.cut == {"data": 5_000_000}


@pytest.mark.parametrize(
    ("state", "since"),
    [("waiting", ADDED), ("active", ADDED + 5000), ("completed", ADDED + 6000), ("failed", ADDED + 6000)],
)
def test_since_when_a_job_is_as_it_is(state: str, since: int) -> None:
    assert view("q", "1", ROW, state=state).since_ms == since
    assert view("q", "1", {"timestamp": str(ADDED)}, state=state).since_ms == ADDED


def test_place_of_a_delayed_job_outranks_its_options() -> None:
    assert view("q", "1", ROW, state="delayed", due_ms=ADDED + 77).due_ms == ADDED + 77


@pytest.mark.parametrize(
    ("carrier", "found"),
    [
        (CARRIER, "0af7651916cd43dd8448eb211c80319c"),
        ('{"traceparent":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}', None),
        ('{"traceparent":"00-0AF7-b7-01"}', None),
        ('{"traceparent":5}', None),
        ("[]", None),
        ("{", None),
        (5, None),
    ],
)
def test_trace_of_a_job(carrier: Any, found: str | None) -> None:
    assert trace_id({"telemetry": {"metadata": carrier}}) == found


@pytest.mark.parametrize(
    ("key", "prefix", "queue", "job_id"),
    [
        ("bull:q:1", "bull", "q", "1"),
        ("{a:b}:q:x:y:z", "{a:b}", "q", "x:y:z"),
        ("other:q:1", "bull", None, "1"),
        ("", "bull", None, ""),
    ],
)
def test_key_names_a_job(key: str, prefix: str, queue: str | None, job_id: str) -> None:
    assert JobKey.of(key, prefix) == JobKey(key, queue, job_id)

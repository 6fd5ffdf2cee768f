"""A job's row, read tolerantly: what is there is used, what can't be read is said, nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.activation import Activation, parse
from workers.broker.numbers import MAX_SAFE

ROW = {
    "name": "send",
    "data": '{"type":"email-send","to":["é"]}',
    "opts": '{"attempts":3,"delay":1000}',
    "timestamp": "1700000000000",
    "processedOn": "1700000003500",
    "atm": "2",
    "ats": "4",
    "stc": "1",
    "priority": "7",
    "stacktrace": '["one","two"]',
    "defa": "job stalled more than allowable limit",
    "rjk": "tick",
}


def read(**row: str) -> Activation:
    return parse("q", "7", row, "t")


def test_row_is_read_whole() -> None:
    job = read(**ROW)
    assert (job.queue, job.id, job.token, job.name) == ("q", "7", "t", "send")
    assert job.data == {"type": "email-send", "to": ["é"]}
    assert job.data_bytes == len(ROW["data"].encode())
    assert job.opts == {"attempts": 3, "delay": 1000}
    assert (job.attempts_made, job.fence, job.stalls, job.priority) == (2, 4, 1, 7)
    assert (job.timestamp, job.processed_on) == (1700000000000, 1700000003500)
    assert job.stack == ("one", "two")
    assert job.deferred_failure == ROW["defa"]
    assert (job.type, job.scheduler) == ("email-send", "tick")
    assert job.defects == ()


def test_flat_reply_is_the_same_row() -> None:
    flat = [part for pair in ROW.items() for part in pair]
    assert parse("q", "7", flat, "t") == read(**ROW)
    assert parse("q", "7", [*flat, "odd"], "t") == read(**ROW)


def test_row_of_older_versions_counts_attempts_by_another_name() -> None:
    assert read(attemptsMade="3").attempts_made == 3
    assert read(attemptsMade="3", atm="4").attempts_made == 4


@pytest.mark.parametrize(
    ("row", "defects"),
    [
        ({"data": "{}"}, []),
        ({}, ["data: not JSON"]),
        ({"data": "{nope"}, ["data: not JSON"]),
        ({"data": "[" * 100_000}, ["data: nested too deeply"]),
        ({"data": "9" * 5000}, ["data: not JSON"]),
        ({"data": "1", "opts": "["}, ["opts: not JSON"]),
        ({"data": "1", "opts": "[]"}, ["opts: expected an object, found a list"]),
        ({"data": "1", "opts": "null"}, ["opts: expected an object, found null"]),
        ({"data": "1", "opts": '"x"'}, ["opts: expected an object, found a string"]),
        ({"data": "1", "opts": "7.5"}, ["opts: expected an object, found a number"]),
        ({"data": "1", "opts": "true"}, ["opts: expected an object, found true or false"]),
        ({"data": "{", "opts": "{"}, ["opts: not JSON", "data: not JSON"]),
        ({"data": "1", "stacktrace": "{nope"}, []),
    ],
)
def test_what_can_not_be_read_is_said_once(row: dict[str, str], defects: list[str]) -> None:
    job = read(**row)
    assert [defect.split(" (")[0] for defect in job.defects] == defects
    assert isinstance(job.opts, dict)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        ("5.0", 5),
        ("1.7e3", 1700),
        ("", 0),
        ("x", 0),
        ("-5", 0),
        ("nan", 0),
        ("inf", 0),
        ("1e999", 0),
        ("1e300", MAX_SAFE),
        ("9" * 400, 0),
    ],
)
def test_numbers_of_the_row_are_ones_that_scripts_take(text: str, number: int) -> None:
    assert read(timestamp=text).timestamp == number


def test_fence_is_one_where_the_row_has_none() -> None:
    assert [read().fence, read(ats="x").fence, read(ats="0").fence] == [1, 1, 0]


@pytest.mark.parametrize("text", ["null", "7", '"one"', '{"a":1}', '[1,{"a":2},null]'])
def test_stack_traces_that_are_no_texts_are_dropped(text: str) -> None:
    assert read(stacktrace=text).stack == ()


@pytest.mark.parametrize(
    ("data", "type_"),
    [('{"type":"a"}', "a"), ('{"type":7}', ""), ('{"type":null}', ""), ("{}", ""), ('["type"]', ""), ("null", "")],
)
def test_type_is_a_text_or_none(data: str, type_: str) -> None:
    assert read(data=data).type == type_


@pytest.mark.parametrize(
    ("opts", "wait_s"),
    [
        ({}, 3.5),
        ({"delay": 1000}, 2.5),
        ({"delay": 60_000}, 0.0),
        ({"delay": -500}, 3.5),
        ({"delay": "1000"}, 3.5),
        ({"delay": True}, 3.5),
        ({"delay": 1e300}, 0.0),
        ({"delay": 10**400}, 3.5),
    ],
)
def test_wait_counts_from_when_the_job_was_due(opts: dict[str, Any], wait_s: float) -> None:
    row = {"timestamp": "1700000000000", "processedOn": "1700000003500", "opts": json.dumps(opts)}
    assert read(**row).wait_s == wait_s


@pytest.mark.parametrize("row", [{"atm": "1"}, {"ats": "2"}, {"stc": "1"}])
def test_wait_of_a_later_start_is_not_known(row: dict[str, str]) -> None:
    assert read(**row).wait_s is None


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
).map(json.dumps)
texts = st.text(st.characters(), max_size=30)  # lone surrogates too
numbers = st.integers().map(str) | st.floats().map(str) | texts
fields = (
    "name",
    "data",
    "opts",
    "stacktrace",
    "defa",
    "rjk",
    "timestamp",
    "processedOn",
    "atm",
    "ats",
    "stc",
    "priority",
)
rows = st.fixed_dictionaries({}, optional={name: json_texts | numbers for name in fields})


@given(rows | st.dictionaries(texts, texts), texts)
def test_any_row_is_read(row: dict[str, str], job_id: str) -> None:
    job = parse("q", job_id, row, "t")
    for number in (job.attempts_made, job.fence, job.stalls, job.timestamp, job.processed_on, job.priority, job.due):
        assert 0 <= number <= 2 * MAX_SAFE
    assert job.wait_s is None or 0 <= job.wait_s <= MAX_SAFE
    assert isinstance(job.type, str) and isinstance(job.opts, dict)


@given(st.lists(texts, max_size=9))
def test_any_flat_reply_is_read(flat: list[str]) -> None:
    assert isinstance(parse("q", "1", flat, "t"), Activation)

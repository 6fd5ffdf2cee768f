"""A job's row, read tolerantly: what is there is used, what can't be read is said, nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker import activation
from workers.broker.activation import MAX_OPTS, MAX_STACKTRACE, Activation, Bounds, parse
from workers.broker.backend import MAX_STACK, MAX_STACKS
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


PARENT = "parent: expected an object with id and queueKey"


def read(**row: str) -> Activation:
    return parse("q", "7", row, "t")


def test_row_is_read_whole() -> None:
    job = read(**ROW)
    assert (job.queue, job.id, job.token, job.name) == ("q", "7", "t", "send")
    assert job.data == {"type": "email-send", "to": ["é"], "id": "7"}, "a scheduler's: its task is this run's own"
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
        ({"data": "9" * 5000}, ["data: expected an integer of at most 4,300 digits, found one of 5,000"]),
        ({"data": '{"x":[NaN]}'}, ["data.x.0: expected a finite number, found NaN"]),
        ({"data": '{"x":-1e400}'}, ["data.x: expected a finite number, found -1e400"]),
        ({"data": "{}", "opts": '{"delay":Infinity}'}, ["opts.delay: expected a finite number, found Infinity"]),
        ({"data": "{}", "opts": '{"a":' * 5000}, ["opts: nested too deeply"]),
        (
            {"data": "{}", "opts": "[" + " " * MAX_OPTS},
            ["opts: 1,048,577 characters, more than the 1,048,576 that are read"],
        ),
        ({"data": "1", "opts": "["}, ["opts: not JSON"]),
        ({"data": "1", "opts": "[]"}, ["opts: expected an object, found a list"]),
        ({"data": "1", "opts": "null"}, ["opts: expected an object, found null"]),
        ({"data": "1", "opts": '"x"'}, ["opts: expected an object, found a string"]),
        ({"data": "1", "opts": "7.5"}, ["opts: expected an object, found a number"]),
        ({"data": "1", "opts": "true"}, ["opts: expected an object, found true or false"]),
        ({"data": "{", "opts": "{"}, ["opts: not JSON", "data: not JSON"]),
        ({"data": "1", "stacktrace": "{nope"}, []),
        ({"data": "1", "stacktrace": '["a",NaN]'}, []),
        ({"data": "1", "stacktrace": "[" * 5000}, []),
        ({"data": "1", "parent": '{"id":"1","queueKey":"b:q","x":1e400}'}, [PARENT]),
        ({"data": "1", "parent": '{"id":"1","queueKey":"b:q"}' + " " * MAX_OPTS}, [PARENT]),
        ({"data": "1", "progress": "NaN", "returnvalue": "[" * 5000}, []),
    ],
)
def test_what_can_not_be_read_is_said_once(row: dict[str, str], defects: list[str]) -> None:
    job = read(**row)
    assert [defect.split(" (")[0] for defect in job.defects] == defects
    assert isinstance(job.opts, dict)


def test_stack_traces_are_read_as_long_as_workers_store_them() -> None:
    stored = json.dumps(["é" * MAX_STACK] * MAX_STACKS)
    assert len(read(stacktrace=stored).stack) == MAX_STACKS
    assert read(stacktrace=stored + " " * MAX_STACKTRACE).stack == ()


# ------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("text", ['{"a":"éé"}', '{"a":"xxxx"}', "NaN" + " " * 9, "[" * 12, "x" * 12, "\ud800" * 4])
def test_data_beyond_the_bound_are_refused_without_being_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def reads(text: str, name: str, **_: Any) -> Any:
        parsed.append(name)
        return {}

    monkeypatch.setattr(activation, "read", reads)
    job = parse("q", "7", {"data": text, "name": "n", "ats": "3"}, "t", Bounds(data_bytes=11))
    assert job.defects == ("data: 12 bytes, more than the 11 this queue accepts (max_data)",)
    assert (job.data, job.data_bytes, job.type, job.name, job.fence) == (None, 12, "", "n", 3)
    assert parsed == ["opts"]


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(data_bytes=12), Bounds(data_bytes=12, depth=1)])
def test_data_within_the_bound_are_parsed(bounds: Bounds) -> None:
    job = parse("q", "7", {"data": '{"a":"éé"}'}, "t", bounds)
    assert (job.data, job.data_bytes, job.defects) == ({"a": "éé"}, 12, ())


def test_data_too_deep_for_the_parser_are_refused_in_the_words_of_the_bound() -> None:
    data = '{"a":[0,' + "[" * 5000 + "]" * 5000 + "]}"
    job = parse("q", "7", {"data": data}, "t", Bounds(depth=4))
    assert job.defects == ("data.a.1.0.0: expected at most 4 levels, found more",)


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

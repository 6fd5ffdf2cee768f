"""`data.status` in the text of a job's data: nothing else of the text changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.data_status import stored_status, with_status, without_stop

TEXTS = {
    '{"status":"a"}': '{"status":"new"}',
    '{ "a" : 1.0 ,\n "status" : "Scheduled" , "b": 12345678901234567890 }': (
        '{ "a" : 1.0 ,\n "status" : "new" , "b": 12345678901234567890 }'
    ),
    '{"in":{"status":"deep"},"status":{"x":[1,{"status":2}]}}': '{"in":{"status":"deep"},"status":"new"}',
    '{"status":1,"a":2,"status":null}': '{"status":"new","a":2,"status":"new"}',
    '{"st\\u0061tus":"x"}': '{"st\\u0061tus":"new"}',
    '{"q":"a\\"}status\\":{","status":""}': '{"q":"a\\"}status\\":{","status":"new"}',
    '  {"status":"a"}\n': '  {"status":"new"}\n',
}


@pytest.mark.parametrize(("text", "new"), TEXTS.items())
def test_only_the_status_is_replaced(text: str, new: str) -> None:
    assert with_status(text, "new") == new
    assert with_status(text, "new", add=True) == new


@pytest.mark.parametrize(
    ("text", "new"),
    [("{}", '{"status":"new"}'), (" { } ", ' { "status":"new"} '), ('{"a":{}}', '{"a":{},"status":"new"}')],
)
def test_one_is_added_where_that_is_asked(text: str, new: str) -> None:
    assert with_status(text, "new") is None
    assert with_status(text, "new", add=True) == new


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '"{}"', "{", '{"a"}', '{"a":1,}', "{1:2}", '{"a":1}{"b":2}', "[" * 100_000, "null"]
)
def test_what_is_no_object_is_left(text: str) -> None:
    assert stored_status(text) is None
    assert with_status(text, "new", add=True) is None
    assert without_stop(text) is None


@pytest.mark.parametrize(
    ("said", "then"),
    [
        ("Canceling", "Scheduled"),
        ("suggested", "Scheduled"),
        ("FAILED", "Scheduled"),
        ("completed", "Scheduled"),
        ("Running", None),
        ("Scheduled", None),
        ("other", None),
        (5, None),
    ],
)
def test_job_that_is_to_run_again_says_no_longer_that_it_is_over(said: object, then: str | None) -> None:
    new = without_stop(json.dumps({"status": said, "a": 1}))
    assert new == (None if then is None else json.dumps({"status": then, "a": 1}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8) | st.just("status"), VALUES, max_size=5), st.booleans(), st.text())
def test_everything_else_is_the_same_value(data: dict[str, object], compact: bool, status: str) -> None:
    text = json.dumps(data, separators=(",", ":") if compact else None, indent=None if compact else 2)
    new = with_status(text, status, add=True)
    assert new is not None
    assert json.loads(new) == {**data, "status": status}
    assert stored_status(text) == data.get("status")

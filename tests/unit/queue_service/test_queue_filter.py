"""Filters mean what they say, whatever is in the jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.job_view import JobView, view
from workers.queue_service.condition import MAX_CHARS, MAX_PARTS, Condition, parse_condition
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.filter import ALL, MAX_CONDITIONS, STATES, JobFilter, parse

NOW = 1_800_000_000_000
DATA = {
    "userId": "42",
    "count": 42,
    "big": 12345678901234567890,
    "ratio": 0.5,
    "on": True,
    "nothing": None,
    "to": ["a@example.com", "b@example.com", 7, None],
    "odd.name": {"x y": ["deep"]},
    "items": [{"id": "i1", "n": 1}, {"id": "i2"}, "text", ["nested"]],
    "text": "Straße in BERLIN",
    "empty": "",
    "": "no name",
}
JOB = view(
    "q",
    "1",
    {
        "name": "email-send",
        "data": json.dumps(DATA),
        "opts": '{"attempts":5,"de":{"id":"once"}}',
        "progress": "0.25",
        "returnvalue": '{"sent":[]}',
        "timestamp": str(NOW - 7_200_000),
        "failedReason": "SMTP 550: mailbox Full",
    },
    state="failed",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.userId=42", True),  # Node's ids are texts
        ('data.userId="42"', True),
        ("data.count=42", True),
        ("data.count=42.0", True),
        ('data.count="42"', False),
        ("data.userId=43", False),
        ("data.big=12345678901234567890", True),
        ("data.big=12345678901234567891", False),
        ("data.ratio=0.5", True),
        ("data.ratio=5e-1", True),
        ("data.on=true", True),
        ("data.on=1", False),
        ('data.on="true"', False),
        ("data.nothing=null", True),
        ("data.missing=null", True),
        ("data.missing.deeper=null", True),
        ("data.missing!=null", False),
        ("data.userId!=null", True),
        ("data.missing=", False),
        ("data.empty=", True),
        ("data.to=a@example.com", True),
        ("data.to=c@example.com", False),
        ("data.to!=c@example.com", True),
        ("data.to=7", True),
        ("data.to.0=a@example.com", True),
        ("data.to.1=a@example.com", False),
        ("data.to.99=a@example.com", False),
        ("data.to.99=null", True),
        ('data.to=["a@example.com","b@example.com",7,null]', True),
        ('data."odd.name"."x y"=deep', True),
        ('data."odd.name"."x y".0=deep', True),
        ("data.odd.name=deep", False),
        ("data.items.id=i2", True),
        ("data.items.n=1", True),
        ("data.items.n=2", False),
        ("data.items.3.0=nested", True),
        ("data.items=nested", False),
        ('data.""="no name"', True),
        ("data.text~berlin", True),
        ("data.text~STRASSE", True),
        ("data.text~paris", False),
        ('data.text~"in b"', True),
        ("data.to~EXAMPLE.com", True),
        ("data.count~4", True),
        ("data.items~i1", False),
        ("data.nothing~", True),
        ("data.missing~", False),
        ("data.on~tru", True),
        ("opts.attempts=5", True),
        ("opts.deduplication.id=once", True),
        ("progress=0.25", True),
        ("returnvalue.sent=[]", True),
        ("data.userId=a=b", False),
        ("data.count=NaN", False),
    ],
)
def test_condition(text: str, expected: bool) -> None:
    condition = parse_condition(text)
    assert condition.matches(JOB) is expected
    assert parse_condition(str(condition)) == condition
    if condition.operator == "=":
        assert replace(condition, operator="!=").matches(JOB) is not expected


def test_condition_does_not_hold_of_what_is_not_whole() -> None:
    row = {"data": '{"userId":"42"'}
    assert not parse_condition("data.userId=42").matches(view("q", "1", row, cut={"data": 9000}))
    assert parse_condition("data.userId=null").matches(view("q", "1", row, cut={"data": 9000}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a condition like"),
        ("data", "expected a condition like"),
        ("=5", "expected a condition like"),
        ("data.=5", "expected a condition like"),
        ("data..a=5", "expected a condition like"),
        (".data=5", "expected a condition like"),
        ("data.a b=5", "expected a condition like"),
        ('data."a=5', "expected a condition like"),
        ('data."\\q"=5', "no text in quotes"),
        ("user=5", "begins with data, opts, progress, returnvalue"),
        ("data" + ".a" * MAX_PARTS + "=5", f"at most {MAX_PARTS} parts"),
        ("data.a=" + "x" * MAX_CHARS, f"at most {MAX_CHARS:,} characters"),
        ("data.\x1b[31m\n", 'found "data.\\u001b[31m\\n"'),
    ],
)
def test_what_is_no_condition_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_condition(text)
    assert refused.value.field == "where"
    assert told in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 300


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse_condition(text)
    except InvalidRequestError:
        return
    condition.matches(JOB)
    assert parse_condition(str(condition)) == condition


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def leaves(value: Any, way: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Each value of a document and the way to it."""
    members: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        members = list(value.items())
    elif isinstance(value, list):
        members = [(str(at), each) for at, each in enumerate(value)]
    return [(way, value), *(leaf for name, each in members for leaf in leaves(each, (*way, name)))]


@settings(deadline=None)
@given(JSON, st.data())
def test_each_value_is_found_by_its_way(document: Any, data: st.DataObject) -> None:
    job = JobView(queue="q", id="1", data=document)
    way, value = data.draw(st.sampled_from(leaves(document)))
    condition = Condition(("data", *way), "=", json.dumps(value))
    assert condition.matches(job)
    assert parse_condition(str(condition)) == condition
    assert not replace(condition, operator="!=").matches(job)


@settings(deadline=None)
@given(JSON, st.lists(st.text(max_size=5), max_size=4), st.sampled_from(["=", "!=", "~"]), st.text(max_size=10))
def test_no_document_is_an_error(document: Any, way: list[str], operator: Any, text: str) -> None:
    Condition(("data", *way), operator, text).matches(JobView(queue="q", id="1", data=document))


def test_lists_in_lists_cost_a_bounded_walk() -> None:
    document: Any = {"a": 1}
    for _ in range(6):
        document = {"x": [document] * 20}
    job = JobView(queue="q", id="1", data=document)
    assert not Condition(("data", *["x"] * 6, "a"), "=", "2").matches(job)  # 64 million values, 10,000 are looked at


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ALL, True),
        (JobFilter(states=("failed", "completed")), True),
        (JobFilter(states=("completed",)), False),
        (JobFilter(older_s=7200), True),
        (JobFilter(older_s=7201), False),
        (JobFilter(newer_s=7200), True),
        (JobFilter(newer_s=7199), False),
        (JobFilter(older_s=3600, newer_s=10_000), True),
        (JobFilter(name="email-send"), True),
        (JobFilter(name="email"), False),
        (JobFilter(name="email*"), True),
        (JobFilter(name="*"), True),
        (JobFilter(name="*send*"), True),
        (JobFilter(name="e*-*d"), True),
        (JobFilter(name="email-send*email-send"), False),
        (JobFilter(name="e.*"), False),
        (JobFilter(error="mailbox full"), True),
        (JobFilter(error="timeout"), False),
        (JobFilter(where=(parse_condition("data.count=42"), parse_condition("opts.attempts=5"))), True),
        (JobFilter(where=(parse_condition("data.count=42"), parse_condition("opts.attempts=6"))), False),
    ],
)
def test_filter(wanted: JobFilter, expected: bool) -> None:
    assert wanted.matches(JOB, NOW) is expected


def test_age_counts_from_how_the_job_came_to_be_so() -> None:
    times = {"timestamp": str(NOW - 100_000), "processedOn": str(NOW - 50_000), "finishedOn": str(NOW - 10_000)}
    for state, age_s in (("waiting", 100), ("active", 50), ("completed", 10)):
        job = view("q", "1", times, state=state)
        assert JobFilter(older_s=age_s).matches(job, NOW) and not JobFilter(older_s=age_s + 1).matches(job, NOW)
    assert not JobFilter(older_s=1).matches(view("q", "1", {}), NOW)


def test_many_stars_are_one_look() -> None:
    job = JobView(queue="q", id="1", name="a" * 100_000)
    assert not JobFilter(name="a*" * 400 + "b").matches(job, NOW)
    assert JobFilter(name="a*" * 400 + "a").matches(job, NOW)


def test_words_of_a_filter() -> None:
    wanted = parse(
        state="failed,wait",
        older="1h30m",
        newer=86400,
        name="mail*",
        error='full "x"',
        where=["data.userId=42", "opts.a~1"],
    )
    assert wanted == JobFilter(
        states=("waiting", "failed"),
        older_s=5400,
        newer_s=86400,
        name="mail*",
        error='full "x"',
        where=(Condition(("data", "userId"), "=", "42"), Condition(("opts", "a"), "~", "1")),
    )
    assert str(wanted) == (
        'waiting or failed jobs older than 1h30m newer than 24h named "mail*" whose error says "full \\"x\\""'
        " where data.userId=42 and opts.a~1"
    )
    assert str(ALL) == "all jobs" and not ALL.is_narrow and wanted.is_narrow


@pytest.mark.parametrize("state", [None, "", "all", [], ["all"], "failed,all", " , "])
def test_no_state_means_all(state: Any) -> None:
    assert parse(state=state) == ALL


def test_each_state_is_one() -> None:
    for state in STATES:
        assert parse(state=state.upper()).states == (state,)
    assert parse(state=list(STATES)).states == STATES


@pytest.mark.parametrize(
    ("given", "field", "told"),
    [
        ({"state": "done"}, "state", 'found "done"'),
        ({"state": ["failed", "\x1b[2J"]}, "state", 'found "\\u001b[2j"'),
        ({"older": "soon"}, "older", "expected a duration"),
        ({"older": "-5"}, "older", "expected"),
        ({"newer": "0s"}, "newer", "expected"),
        ({"newer": float("nan")}, "newer", "expected"),
        ({"name": "x" * 1001}, "name", "at most 1,000 characters"),
        ({"error": "x" * 1001}, "error", "at most 1,000 characters"),
        ({"where": ["data.a=1"] * (MAX_CONDITIONS + 1)}, "where", f"at most {MAX_CONDITIONS}"),
    ],
)
def test_malformed_filter_is_refused_by_name(given: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse(**given)
    assert refused.value.field == field and told in str(refused.value)

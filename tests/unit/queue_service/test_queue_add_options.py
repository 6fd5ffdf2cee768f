"""How a job is to be added: what is taken, how it is written, and which field is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.queue_service.add_options import DEFAULT, AddOptions, Deduplication, said
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.option_rules import MAX_DELAY_MS, MAX_LEVELS, MAX_VALUES


def test_nothing_said_is_nothing_written() -> None:
    assert said(DEFAULT) == said(AddOptions()) == {}


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({"job_id": "a:b", "priority": 0, "delay_ms": 5, "attempts": 3, "lifo": True}, None),
        ({"priority": 2**21 - 1}, {"priority": 2**21 - 1}),
        ({"delay_ms": 0}, {"delay": 0}),
        ({"urgency": "critical", "resource_cost": 1e9, "registered": True}, {}),
        (
            {"raw": {"keepLogs": 3, "backoff": 5, "x": [1]}},
            {"kl": 3, "backoff": {"type": "fixed", "delay": 5}, "x": [1]},
        ),
        ({"raw": {"kl": 3, "deduplication": {"id": "d", "ttl": 5}}}, {"kl": 3, "de": {"id": "d", "ttl": 5}}),
        ({"raw": {"priority": 7, "attempts": 2}, "priority": 3}, {"priority": 3, "attempts": 2}),
        ({"raw": {"removeOnComplete": True, "removeOnFail": {"age": 5}}}, None),
        ({"raw": {"telemetry": {"metadata": "{}", "omitContext": True}}}, {"tm": "{}", "omc": True}),
        ({"raw": {"timestamp": 1_700_000_000_000, "timeout": 600_000}}, None),
    ],
)
def test_what_is_said_is_written_under_bullmqs_names(options: dict[str, Any], written: Any) -> None:
    if written is None:
        names = {"job_id": "jobId", "delay_ms": "delay"}
        written = {names.get(name, name): value for name, value in (options.get("raw") or options).items()}
    assert said(AddOptions(**options)) == written


@pytest.mark.parametrize(
    ("fields", "more", "written"),
    [
        ({}, {}, {"id": "d"}),
        ({"mode": "throttle", "ttl_ms": 5000}, {}, {"id": "d", "ttl": 5000}),
        (
            {"mode": "debounce", "ttl_ms": 5000},
            {"delay_ms": 5000},
            {"id": "d", "ttl": 5000, "extend": True, "replace": True},
        ),
        ({"mode": "debounce"}, {"delay_ms": 1}, {"id": "d", "replace": True}),
        ({"mode": "debounce"}, {"raw": {"delay": 1}}, {"id": "d", "replace": True}),
        ({"mode": "debounce", "ttl_ms": 5, "replace": False}, {}, {"id": "d", "ttl": 5, "extend": True}),
        ({"mode": "debounce", "ttl_ms": 5, "extend": False}, {"delay_ms": 1}, {"id": "d", "ttl": 5, "replace": True}),
        ({"mode": "keep_last_if_active"}, {}, {"id": "d", "keepLastIfActive": True}),
    ],
)
def test_modes_of_deduplication_are_written_as_bullmq_reads_them(
    fields: dict[str, Any], more: dict[str, Any], written: dict[str, Any]
) -> None:
    assert said(AddOptions(deduplication=Deduplication(id="d", **fields), **more))["de"] == written


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mode": "throttle"}, "deduplication.ttl_ms"),
        ({"mode": "throttle", "ttl_ms": 0}, "deduplication.ttl_ms"),
        ({"mode": "simple", "ttl_ms": 5}, "deduplication.ttl_ms"),
        ({"mode": "keep_last_if_active", "ttl_ms": 5}, "deduplication.ttl_ms"),
        ({"mode": "debounce", "ttl_ms": 5}, "delay_ms"),
        ({"mode": "once"}, "deduplication.mode"),
        ({"mode": "throttle", "ttl_ms": -1}, "deduplication"),
        ({"mode": "throttle", "ttl_ms": "5"}, "deduplication"),
        ({"id": ""}, "deduplication"),
        ({"id": "x" * 257}, "deduplication"),
        ({"id": "\ud800"}, "deduplication"),
        ({"id": 7}, "deduplication"),
    ],
)
def test_deduplication_that_would_not_do_what_it_says_is_refused(fields: dict[str, Any], field: str) -> None:
    chosen: Any = Deduplication(**{"id": "d", **fields})
    with pytest.raises(InvalidRequestError) as refused:
        said(AddOptions(deduplication=chosen))
    assert refused.value.field == field


def nested(levels: int) -> Any:
    deep: Any = 1
    for _ in range(levels):
        deep = {"a": deep}
    return deep


BAD: list[tuple[dict[str, Any], str]] = [
    *(({"job_id": bad}, "job_id") for bad in ("", "7", "-7", "0:1", "x" * 257, "\ud800", 7, b"a")),
    *(({"priority": bad}, "priority") for bad in (-1, 2**21, 1.5, True, "1", math.nan)),
    *(({"delay_ms": bad}, "delay_ms") for bad in (-1, MAX_DELAY_MS + 1, math.inf, math.nan, "1", True)),
    *(({"attempts": bad}, "attempts") for bad in (-1, 1.5, 2**40, True)),
    *(({"urgency": bad}, "urgency") for bad in ("urgent", 1, "")),
    *(({"resource_cost": bad}, "resource_cost") for bad in (-1, math.inf, math.nan, "1", None)),
    *(({"lifo": bad}, "lifo") for bad in (1, None, "yes")),
    *(({"raw": bad}, "raw") for bad in (None, [], {1: 2}, {"x" * 61: 1}, {"a\x1b": 1})),
    ({"raw": {f"k{n}": 1 for n in range(101)}}, "raw"),
    *(({"raw": {name: {}}}, f"raw.{name}") for name in ("parent", "fpof", "repeat", "prevMillis", "repeatJobKey")),
    ({"raw": {"failParentOnFailure": True}}, "raw.fpof"),
    *(({"raw": {"backoff": bad}}, "raw.backoff") for bad in (-1, "fast", {}, {"type": "x", "delay": -1})),
    *(({"raw": {"backoff": {"type": "x", **bad}}}, "raw.backoff") for bad in ({"jitter": 2}, {"more": b"x"})),
    *(({"raw": {"removeOnFail": bad}}, "raw.removeOnFail") for bad in ("no", {"age": "1"}, [1])),
    *(({"raw": {"timestamp": bad}}, "raw.timestamp") for bad in (0, -1, 2**53, 1.5, "now")),
    *(({"raw": {"de": bad}}, "raw.de") for bad in ({}, {"id": ""}, "d", {"ttl": 5})),
    *(({"raw": {"de": {"id": "d", **bad}}}, "raw.de") for bad in ({"ttl": -1}, {"replace": 1}, {"more": math.nan})),
    *(({"raw": {"jobId": bad}}, "raw.jobId") for bad in ("7", "", 7)),
    ({"raw": {"tm": "x" * 20_000}}, "raw.tm"),
    ({"raw": {"omc": 1}}, "raw.omc"),
    ({"raw": {"sizeLimit": -1}}, "raw.sizeLimit"),
    *(
        ({"raw": {"x": bad}}, "raw.x")
        for bad in (math.nan, 2**53, {1}, b"x", "\ud800", {1: 2}, nested(MAX_LEVELS + 1), [1] * (MAX_VALUES + 1))
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "field"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_what_can_not_be_is_refused_with_its_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        said(AddOptions(**options))
    assert refused.value.field == field
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


def test_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidRequestError, match=r"raw\.x: expected JSON of at most 8 levels"):
        said(AddOptions(raw={"x": loop}))


def test_options_of_another_kind_are_refused() -> None:
    wrong: Any = {"priority": 5}
    with pytest.raises(InvalidRequestError, match="options: expected AddOptions, found a dict"):
        said(wrong)
    with pytest.raises(InvalidRequestError, match="deduplication: expected a Deduplication, found a str"):
        said(AddOptions(deduplication="d"))  # type: ignore[arg-type]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), below, max_size=3),
    max_leaves=8,
)
WORDS = """jobId priority delay attempts lifo deduplication de backoff removeOnFail timestamp telemetry tm kl x parent
repeat debounce sizeLimit"""
NAMES = st.sampled_from(WORDS.split()) | st.text(max_size=5)


@given(
    raw=st.dictionaries(NAMES, ANY, max_size=4),
    fields=st.dictionaries(st.sampled_from(["job_id", "priority", "delay_ms", "attempts", "lifo", "urgency"]), ANY),
)
def test_whatever_is_given_is_either_refused_or_can_be_written(raw: Any, fields: Any) -> None:
    try:
        found = said(AddOptions(raw=raw, **fields))
    except InvalidRequestError as error:
        assert error.field
        return
    assert msgpack.unpackb(msgpack.packb(found), strict_map_key=True) == json.loads(json.dumps(found, allow_nan=False))

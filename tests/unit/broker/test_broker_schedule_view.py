"""What is read of a job scheduler, whoever wrote it, and by what two of them are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.schedule_view import StoredSchedule, fingerprint, missed_of, own_option, parse
from workers.broker.schedulers import NewSchedule

ROW = ["q", "UTC", "0 3 * * *", None, "5", "1780272000000", "1790000000000", '{"type":"q"}', '{"attempts":3}']
RUN = '{"repeat":{"count":2,"pattern":"0 3 * * *"}}'


def stored(*head: Any, row: list[Any] = ROW) -> StoredSchedule:
    found = parse("q", "s", [*(head or ("1780272000000", "v", "planned", RUN, "7")), *row])
    assert found is not None
    return found


def test_row_is_read_whole() -> None:
    found = stored()
    assert (found.queue, found.id, found.version, found.name) == ("q", "s", "v", "q")
    assert (found.cron, found.tz, found.every_ms, found.limit) == ("0 3 * * *", "UTC", None, 5)
    assert (found.next_ms, found.start_ms, found.end_ms) == (1_780_272_000_000, 1_780_272_000_000, 1_790_000_000_000)
    assert (found.data, found.options, found.runs, found.next_run) == ({"type": "q"}, {"attempts": 3}, 2, "planned")
    assert (found.is_legacy, found.problems) == (False, ())
    assert found.repeat == {
        "pattern": "0 3 * * *",
        "tz": "UTC",
        "limit": 5,
        "startDate": 1_780_272_000_000,
        "endDate": 1_790_000_000_000,
    }


def test_nothing_is_nothing() -> None:
    assert parse("q", "s", []) is None


def test_runs_are_counted_by_the_job_and_else_by_the_scheduler() -> None:
    assert stored("0", "v", "gone", "", "7").runs == 7
    assert stored("0", "v", "gone", "{", "x").runs == 0


def test_repeatable_job_of_old_is_known_by_what_it_lacks() -> None:
    assert stored("0", "v", "planned", "", None).is_legacy


@pytest.mark.parametrize(
    ("data", "opts", "problem"),
    [
        ("too large", "{}", "data: not JSON"),
        ("{}", "[]", "opts: no object"),
        ("{}", '{"a":NaN}', "opts.a: expected a finite number, found NaN"),
    ],
)
def test_what_can_not_be_read_is_named(data: str, opts: str, problem: str) -> None:
    found = stored(row=[*ROW[:-2], data, opts])
    assert found.problems[0].startswith(problem)


TEXTS = st.none() | st.text(max_size=8) | st.sampled_from(["{}", "[]", "1e999", '{"repeat":[]}', "NaN", "9" * 400])


@given(st.lists(TEXTS, min_size=5, max_size=14))
@settings(deadline=None)
def test_whatever_stands_there_is_read(reply: list[str | None]) -> None:
    found = parse("q", "s", reply)
    assert found is not None
    assert found.runs >= 0 and found.fingerprint and found.missed[1] >= 0


@pytest.mark.parametrize(
    ("missed", "grace_ms", "written"),
    [("run_once", 5, {}), ("skip", 5, {"fleet": {"missed": "skip", "graceMs": 5}})],
)
def test_missed_runs_are_said_in_the_options(missed: Any, grace_ms: int, written: dict[str, Any]) -> None:
    assert own_option(missed, grace_ms) == written
    assert missed_of(written) == (missed, 5 if missed == "skip" else 0)


@pytest.mark.parametrize(
    "said",
    [None, 1, [], {}, {"missed": "skip"}, {"missed": "skip", "graceMs": -1}, {"missed": "skip", "graceMs": "5"}],
)
def test_what_others_write_there_is_bullmqs_own_way(said: Any) -> None:
    assert missed_of({"fleet": said}) == ("run_once", 0)


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=4),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=3), below, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(st.text(min_size=1, max_size=4), VALUES, max_size=4)


@given(OPTIONS)
@settings(deadline=None)
def test_options_are_the_same_after_lua_has_written_them(options: dict[str, Any]) -> None:
    """As cmsgpack and cjson take them: numbers with 14 digits, no nulls in objects, no empty lists."""

    def lua(value: Any) -> Any:
        match value:
            case dict():
                return {key: lua(below) for key, below in value.items() if below is not None}
            case list():
                return [lua(below) for below in value] or {}
            case bool() | str() | None:
                return value
        return json.loads(f"{value:.14g}")

    before = fingerprint("q", {}, {}, options)
    assert fingerprint("q", {}, {}, lua(options)) == before


def test_fingerprint_is_of_what_is_written_and_changes_with_each_part_of_it() -> None:
    new = NewSchedule(queue="q", id="s", name="q", repeat=stored().repeat, data={"type": "q"}, options={"attempts": 3})
    assert new.fingerprint == stored().fingerprint
    rows = [
        ["x", *ROW[1:]],
        [ROW[0], "Europe/Berlin", *ROW[2:]],
        [*ROW[:2], "0 4 * * *", *ROW[3:]],
        [*ROW[:4], "6", *ROW[5:]],
        [*ROW[:7], "{}", ROW[8]],
        [*ROW[:8], "{}"],
    ]
    prints = {stored(row=row).fingerprint for row in rows}
    assert len(prints) == len(rows) and new.fingerprint not in prints

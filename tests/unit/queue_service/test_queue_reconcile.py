"""What is done to schedules: by a table of what may be declared, there, and marked; and what never is, by property."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.schedule_view import NextRun, StoredSchedule
from workers.broker.schedulers import Found, NewSchedule
from workers.queue_service.reconcile import Mark, Step, origin_of, plan

NOW = 1_780_000_000_000
DAY = 86_400_000
KEY = ("q", "s")


def new(pattern: str = "0 3 * * *", attempts: int = 1, **repeat: Any) -> NewSchedule:
    times = {"pattern": pattern, "tz": "UTC", **repeat}
    return NewSchedule(queue="q", id="s", name="q", repeat=times, data={"type": "q"}, options={"attempts": attempts})


def stored(what: NewSchedule, *, next_run: NextRun = "planned", runs: int = 1) -> StoredSchedule:
    repeat = what.repeat
    return StoredSchedule(
        queue=what.queue,
        id=what.id,
        version="v",
        next_ms=NOW + DAY if next_run == "planned" else NOW - DAY,
        next_run=next_run,
        name=what.name,
        cron=repeat["pattern"],
        tz=repeat["tz"],
        limit=repeat.get("limit"),
        end_ms=repeat.get("endDate"),
        data=dict(what.data),
        options=dict(what.options),
        runs=runs,
    )


A, B, C = new(), new(attempts=2), new("0 4 * * *")
ENDED = new(endDate=NOW - 1)


def mark(what: NewSchedule) -> str:
    return str(Mark(what.fingerprint))


def only(declared: NewSchedule | None, there: StoredSchedule | None, marked: str, **how: Any) -> Step | None:
    steps = plan({KEY: declared} if declared else {}, {KEY: Found(there, marked)}, NOW, **how)
    assert len(steps) <= 1
    return steps[0] if steps else None


@pytest.mark.parametrize(
    ("declared", "there", "marked", "action", "reason"),
    [
        (A, None, "", "add", "it is new"),
        (ENDED, None, "", "leave", "its end is over"),
        (A, None, mark(A), "leave", "it was removed by hand, and stays so until its entry changes"),
        (B, None, mark(A), "add", "it is new"),
        (A, stored(A), "", "leave", "somebody else has made one of this name: rename the entry, or remove theirs"),
        (A, stored(C), "", "leave", "somebody else has made one of this name: rename the entry, or remove theirs"),
        (A, stored(A), "{}", "leave", "somebody else has made one of this name: rename the entry, or remove theirs"),
        (A, stored(A), mark(A), "leave", "it is as declared"),
        (B, stored(A), mark(A), "update", "its entry has changed"),
        (A, stored(C), mark(A), "leave", "it was changed by hand, and stays so until its entry changes"),
        (B, stored(C), mark(A), "update", "its entry has changed, and a change by hand is undone"),
        (A, stored(A, next_run="over"), mark(A), "update", "its next run was lost, so that it had stopped"),
        (A, stored(A, next_run="gone"), mark(A), "update", "its next run was lost, so that it had stopped"),
        (ENDED, stored(ENDED, next_run="over"), mark(ENDED), "leave", "it has ended"),
        (None, stored(A), mark(A), "remove", "it is declared no more"),
        (
            None,
            stored(C),
            mark(A),
            "forget",
            "it is declared no more, but was changed by hand: it is left to whoever did so",
        ),
        (None, None, mark(A), "forget", "it is declared no more, and was removed by hand"),
        (None, stored(A), "", None, ""),
        (None, stored(A), "not ours", None, ""),
        (None, stored(A), '{"v":2,"fingerprint":"x"}', None, ""),
    ],
)
def test_each_case_has_its_step(
    declared: NewSchedule | None, there: StoredSchedule | None, marked: str, action: str | None, reason: str
) -> None:
    step = only(declared, there, marked)
    assert (step and (step.action, step.reason)) == ((action, reason) if action else None)


def test_what_was_done_by_hand_is_taken_back_where_that_is_asked_for() -> None:
    removed, edited = only(A, None, mark(A), restore=True), only(A, stored(C), mark(A), restore=True)
    assert removed is not None and removed.action == "add"
    assert edited is not None and (edited.action, edited.is_notable) == ("update", True)
    theirs = only(A, stored(C), "", restore=True)
    assert theirs is not None and theirs.action == "leave", "what is somebody else's stays theirs"


@pytest.mark.parametrize(
    ("declared", "there", "done"),
    [
        (new(attempts=2, limit=5), stored(new(limit=5), runs=3), 2),
        (new(attempts=2, limit=5), stored(new(limit=5), runs=3, next_run="over"), 3),
        (new(limit=9), stored(new(limit=5), runs=3), 0),
        (new("0 5 * * *", limit=5), stored(new(limit=5), runs=3), 0),
    ],
)
def test_runs_count_on_while_its_times_are_the_same(declared: NewSchedule, there: StoredSchedule, done: int) -> None:
    step = only(declared, there, mark(new(limit=5)))
    assert step is not None and (step.action, step.done) == ("update", done)


def test_schedule_that_has_had_its_runs_is_not_begun_again_by_another_change() -> None:
    over = stored(new(limit=5), runs=5, next_run="over")
    step = only(new(attempts=2, limit=5), over, mark(new(limit=5)))
    assert step is not None and (step.action, step.reason) == ("leave", "it has ended")
    longer = only(new(limit=6), over, mark(new(limit=5)))
    assert longer is not None and longer.action == "update"


def test_whose_it_is_is_known_by_mark_and_fingerprint() -> None:
    assert origin_of(Found(stored(A), mark(A))) == "declared"
    assert origin_of(Found(stored(C), mark(A))) == "changed"
    assert origin_of(Found(stored(A), "")) == "other"
    assert origin_of(Found(None, mark(A))) == "other"


# ------------------------------------------------------------------ by property

SPECS = st.sampled_from([A, B, C, new(limit=2), ENDED])
RUNS: st.SearchStrategy[NextRun] = st.sampled_from(["planned", "over", "gone"])
COUNTS = st.integers(1, 3)
THERE = st.none() | st.builds(lambda what, run, runs: stored(what, next_run=run, runs=runs), SPECS, RUNS, COUNTS)
MARKS = st.sampled_from(["", "junk"]) | SPECS.map(mark)
IDS = st.sampled_from(["a", "b", "c"])
WORLD = st.dictionaries(IDS, st.tuples(THERE, MARKS), max_size=3)
DECLARED = st.dictionaries(IDS, SPECS, max_size=3)


def world(here: dict[str, Any]) -> dict[tuple[str, str], Found]:
    return {("q", name): Found(there, marked) for name, (there, marked) in here.items()}


def carried_out(here: dict[tuple[str, str], Found], steps: list[Step]) -> dict[tuple[str, str], Found]:
    """Redis after these steps."""
    after = dict(here)
    for step in steps:
        key = (step.queue, step.id)
        if step.action in ("add", "update"):
            assert step.new is not None
            after[key] = Found(stored(step.new, runs=step.done + 1), mark(step.new))
        elif step.action in ("remove", "forget"):
            after[key] = Found(None if step.action == "remove" else step.found.stored, "")
    return after


@given(DECLARED, WORLD, st.booleans())
@settings(deadline=None)
def test_nothing_without_our_mark_is_ever_touched(
    declared: dict[str, NewSchedule], here: dict[str, Any], restore: bool
) -> None:
    found = world(here)
    for step in plan({("q", name): each for name, each in declared.items()}, found, NOW, restore=restore):
        if step.found.stored is not None and Mark.parse(step.found.mark) is None:
            assert step.action == "leave"
        if step.action == "remove":
            assert origin_of(step.found) == "declared" and step.id not in declared


@given(DECLARED, WORLD)
@settings(deadline=None)
def test_second_time_there_is_nothing_left_to_do(declared: dict[str, NewSchedule], here: dict[str, Any]) -> None:
    wanted = {("q", name): each for name, each in declared.items()}
    found = world(here)
    after = carried_out(found, plan(wanted, found, NOW))
    again = plan(wanted, after, NOW)
    assert {step.action for step in again} <= {"leave"}, again


@given(DECLARED, DECLARED, WORLD)
@settings(deadline=None)
def test_last_file_has_its_way_whichever_came_before(
    first: dict[str, NewSchedule], second: dict[str, NewSchedule], here: dict[str, Any]
) -> None:
    """A rolling deployment: each pod looks once, with its own file. Nobody's own schedules are lost on the way."""
    found = world({name: value for name, value in here.items() if Mark.parse(value[1]) is None})
    one, two = ({("q", name): each for name, each in some.items()} for some in (first, second))
    for file in (one, two, one, two):
        found = carried_out(found, plan(file, found, NOW))
    for key, wanted in two.items():
        there = found.get(key, Found())
        is_theirs = there.stored is not None and Mark.parse(there.mark) is None
        is_over = wanted.repeat.get("endDate", NOW) < NOW
        assert is_theirs or is_over or (there.stored is not None and there.stored.fingerprint == wanted.fingerprint)
    theirs = {name for name, (there, _) in here.items() if there is not None}
    assert all(found[("q", name)].stored is not None for name in theirs if Mark.parse(here[name][1]) is None)


def test_steps_are_in_words() -> None:
    step = only(A, None, "")
    assert step is not None and str(step) == "add s of queue q: it is new"
    assert replace(step, id="t").id == "t"

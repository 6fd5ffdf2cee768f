"""Which process is replaced, and that none is replaced again and again for a limit that is too small."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.supervision.recycle import (
    GROWN,
    LIFE_MAX_S,
    LIFE_S,
    MAX_LEFT_BEHIND,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    Candidate,
    Limits,
    choose,
    due,
    life_s,
    retry_s,
)

MB = 1024**2
LIMITS = Limits(memory=400 * MB, max_jobs=100)


def process(**fields: Any) -> Candidate:
    values = {"name": "ai-0", "limits": LIMITS, "age_s": 3600.0, "rss": 100 * MB, "settled": 90 * MB, **fields}
    return Candidate(**values)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"rss": 400 * MB - 1}, None),
        ({"rss": 400 * MB}, "memory"),
        ({"rss": 400 * MB, "age_s": LIFE_S - 0.1}, None),
        ({"rss": 400 * MB, "age_s": LIFE_S, "settled": 0}, "memory"),
        ({"rss": 10**15, "limits": Limits()}, None),
        ({"jobs": 99}, None),
        ({"jobs": 100}, "jobs"),
        ({"jobs": 10**9, "age_s": LIFE_S - 0.1}, None),
        ({"jobs": 10**9, "limits": Limits()}, None),
        ({"jobs": 100, "rss": 400 * MB}, "memory"),
        ({"left_behind": MAX_LEFT_BEHIND}, None),
        ({"left_behind": MAX_LEFT_BEHIND + 1}, "left_behind"),
        ({"left_behind": MAX_LEFT_BEHIND + 1, "limits": Limits()}, "left_behind"),
        ({"left_behind": 10**9, "age_s": LIFE_S - 0.1}, None),
        ({"left_behind": 10**9, "jobs": 100}, "left_behind"),
        ({"left_behind": 10**9, "rss": 400 * MB}, "memory"),
        ({"stale": True}, "config"),
        ({"stale": True, "age_s": 0.0}, "config"),
        ({"stale": True, "jobs": 100, "rss": 400 * MB}, "config"),
    ],
)
def test_process_is_replaced_for_what_it_has_reached(fields: dict[str, Any], reason: str | None) -> None:
    found = due("ai", process(**fields))
    assert (found.reason if found else None) == reason


def test_reason_says_what_it_has_and_which_setting_it_is() -> None:
    memory = due("ai", process(rss=410 * MB))
    jobs = due("ai", process(jobs=120))
    assert memory is not None and memory.detail == "410MB resident, pools.ai.memory is 400MB"
    left = due("ai", process(left_behind=7))
    assert left is not None and left.detail == "7 runs go on although their jobs are over, more than 4"
    assert jobs is not None and jobs.detail == "120 jobs done, pools.ai.max_jobs is 100"


# ------------------------------------------------------- a limit that is too small


def over_from_the_beginning(soon: int, age_s: float, rss: int = 420 * MB) -> Any:
    return due("ai", process(rss=rss, settled=420 * MB, soon=soon, age_s=age_s))


def test_first_process_that_is_over_from_the_beginning_is_replaced_and_told() -> None:
    found = over_from_the_beginning(soon=0, age_s=LIFE_S)
    assert found is not None and found.soon


@pytest.mark.parametrize(("soon", "life"), [(0, 10), (1, 20), (2, 40), (5, 320), (6, 600), (7, 600), (10**6, 600)])
def test_each_further_one_lives_twice_as_long(soon: int, life: float) -> None:
    assert life_s(soon) == life
    assert over_from_the_beginning(soon, age_s=life - 0.1) is None
    assert over_from_the_beginning(soon, age_s=life) is not None


def test_one_that_grows_on_is_replaced_all_the_same() -> None:
    found = over_from_the_beginning(soon=6, age_s=LIFE_S, rss=round(GROWN * 420 * MB))
    assert found is not None and not found.soon


def test_one_that_has_grown_over_its_limit_later_is_no_reason_to_wait() -> None:
    found = due("ai", process(rss=400 * MB, settled=399 * MB, soon=6, age_s=LIFE_S))
    assert found is not None and not found.soon


def test_limit_that_every_process_exceeds_is_no_tight_loop() -> None:
    """A simulated hour of processes that have 420MB from their first second on."""
    replaced, soon, age_s = 0, 0, 0.0
    for _ in range(3600):
        age_s += 1
        if (found := over_from_the_beginning(soon, age_s)) is not None:
            replaced, soon, age_s = replaced + 1, soon + found.soon, 0.0
    assert replaced <= 12


def test_fast_leak_is_bounded_by_its_limit_not_by_the_waits() -> None:
    """A process that gains 50MB a second: over after 10 s, never a multiple of what it had then."""
    soon, age_s, most = 0, 0.0, 0
    for _ in range(600):
        age_s += 1
        rss = round(50 * MB * age_s)
        most = max(most, rss)
        settled = round(50 * MB * LIFE_S) if age_s >= LIFE_S else 0
        if (found := due("ai", process(rss=rss, settled=settled, soon=soon, age_s=age_s))) is not None:
            soon, age_s = soon + found.soon, 0.0
    assert most <= GROWN * 50 * MB * LIFE_S + 50 * MB


@given(st.integers(), st.integers())
def test_waits_are_within_their_bounds(soon: int, failures: int) -> None:
    assert LIFE_S <= life_s(soon) <= LIFE_MAX_S
    assert RETRY_FIRST_S <= retry_s(failures) <= RETRY_MAX_S


# ----------------------------------------------------------------------- the choice


def test_most_urgent_reason_goes_first() -> None:
    jobs, memory, stale = (
        process(name="ai-0", jobs=100),
        process(name="ai-1", rss=500 * MB),
        process(name="ai-2", stale=True),
    )
    names = [choose("ai", found) for found in ([jobs, memory, stale], [jobs, memory], [jobs], [])]
    assert [found and found.name for found in names] == ["ai-2", "ai-1", "ai-0", None]


def test_process_whose_successor_did_not_start_waits_its_turn_and_others_do_not() -> None:
    waits, other = process(name="ai-0", rss=500 * MB, retry_in_s=0.1), process(name="ai-1", jobs=100)
    found = choose("ai", [waits, other])
    assert found is not None and found.name == "ai-1"
    assert choose("ai", [waits]) is None


candidates = st.builds(
    Candidate,
    name=st.sampled_from(["a-0", "a-1", "a-2"]),
    limits=st.builds(Limits, memory=st.none() | st.integers(1, 2**40), max_jobs=st.none() | st.integers(1, 10**9)),
    age_s=st.floats(0, 1e6),
    rss=st.integers(0, 2**41),
    settled=st.integers(0, 2**41),
    jobs=st.integers(0, 10**10),
    stale=st.booleans(),
    soon=st.integers(0, 100),
    retry_in_s=st.floats(-1, 100),
)


@given(candidates)
def test_nothing_is_replaced_without_a_limit_or_a_new_configuration(one: Candidate) -> None:
    found = choose("a", [one])
    if found is not None:
        assert one.stale or (one.age_s >= LIFE_S and one.limits != Limits())
        assert one.retry_in_s <= 0
        assert found.name == one.name

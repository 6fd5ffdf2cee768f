"""The ladder as a table: which rung when, for whom, after which answer; and what holds for every ladder."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import rung_times
from tasks.tier import TIERS, Tier
from workers.broker.events import RungName
from workers.runtime.hint import Hint
from workers.runtime.ladder import (
    ASKING,
    CLEANUP_S,
    ENDING,
    FORCING,
    KILL_S,
    START,
    Climb,
    Ladder,
    LadderError,
    Position,
    Rung,
    step,
    until_s,
)

FREE, PREMIUM = frozenset[Tier](["free"]), frozenset[Tier](["premium"])
SWARM = Ladder(
    (
        Rung(do="pause", at_s=60, tiers=FREE, tries=2),
        Rung(do="pause", at_s=300, tiers=PREMIUM, tries=2),
        Rung(do="stop", at_s=600, wait_s=20),
        Rung(do="kill"),
    )
)
Walk = list[tuple[str, float]]


def walk(
    climb: Climb,
    *,
    answers: dict[str, float] | None = None,
    late: dict[float, float] | None = None,
    begun: dict[int, float] | None = None,
) -> Walk:
    """What is done when, to a run that never ends by itself.

    Args:
        answers: rung → seconds after each try at which the run declines it, or saves what it asks for.
        late: looks at these times come as many seconds too late.
        begun: is told when each rung was first tried, by its index.
    """
    done: Walk = []
    position, now, answer_at = START, 0.0, math.inf
    for _ in range(10_000):
        answered = now >= answer_at
        if answered:
            answer_at = math.inf
        taken = step(climb, position, now, answered=answered)
        position = taken.position
        if taken.do is not None:
            done.append((taken.do, now))
            if taken.do == "leave":
                return done
            if begun is not None:
                begun.setdefault(position.rung, now)
            answer_at = now + (answers or {}).get(taken.do, math.inf)
            continue
        assert taken.look_s > now, "the driver would spin"
        now = min(taken.look_s, answer_at)
        now += (late or {}).get(now, 0.0)
    raise AssertionError("it never ends")


# ------------------------------------------------------------------------- tiers


@pytest.mark.parametrize(
    ("tier", "walked"),
    [
        ("free", [("pause", 60), ("pause", 70), ("stop", 600), ("kill", 620), ("leave", 620 + KILL_S)]),
        ("premium", [("pause", 300), ("pause", 310), ("stop", 600), ("kill", 620), ("leave", 620 + KILL_S)]),
        ("enterprise", [("stop", 600), ("kill", 620), ("leave", 620 + KILL_S)]),
    ],
)
def test_each_tier_has_its_rungs(tier: Tier, walked: Walk) -> None:
    climb = SWARM.for_run(tier)
    assert walk(climb) == walked
    assert (climb.cut_s, climb.end_s) == (620, 620 + KILL_S)


def test_ladder_that_is_the_same_for_all_says_so() -> None:
    everyone = Ladder((Rung(do="cancel", at_s=5, tiers=frozenset(TIERS)),))
    assert everyone.only is not None
    assert not everyone.by_tier
    assert all(everyone.for_run(tier) is everyone.only or everyone.for_run(tier) == everyone.only for tier in TIERS)
    assert SWARM.by_tier and SWARM.only is None
    assert replace(everyone, job_may_set_s=9).only is None


# ------------------------------------------------------------------------ answers

ANSWERS: list[tuple[tuple[Rung, ...], dict[str, float], Walk]] = [
    # the one-rung form: cancelled, killed after its clean-up, left
    ((Rung(do="cancel", at_s=30),), {}, [("cancel", 30), ("kill", 35), ("leave", 36)]),
    ((Rung(do="cancel", at_s=30, wait_s=60),), {}, [("cancel", 30), ("kill", 90), ("leave", 91)]),
    ((Rung(do="kill", at_s=30),), {}, [("kill", 30), ("leave", 31)]),
    # the clean-up lasts until the next rung's time
    (
        (Rung(do="cancel", at_s=30), Rung(do="kill", at_s=50)),
        {"cancel": 1, "kill": 0.5},  # nobody declines these
        [("cancel", 30), ("kill", 50), ("leave", 51)],
    ),
    ((Rung(do="cancel", at_s=30), Rung(do="kill", at_s=31)), {}, [("cancel", 30), ("kill", 31), ("leave", 32)]),
    # a warning falls at once
    (
        (Rung(do="warn", at_s=5), Rung(do="stop"), Rung(do="cancel")),
        {},
        [("warn", 5), ("stop", 5), ("cancel", 15), ("kill", 20), ("leave", 21)],
    ),
    ((Rung(do="warn", at_s=5), Rung(do="kill", at_s=9)), {}, [("warn", 5), ("kill", 9), ("leave", 10)]),
    # asked in vain: tries times wait
    (
        (Rung(do="pause", at_s=5, tries=3, wait_s=2), Rung(do="kill")),
        {},
        [("pause", 5), ("pause", 7), ("pause", 9), ("kill", 11), ("leave", 12)],
    ),
    # declined: the next one at once …
    (
        (Rung(do="pause", at_s=5, tries=3, wait_s=2), Rung(do="stop", wait_s=4), Rung(do="kill")),
        {"pause": 0.5, "stop": 0.25},
        [("pause", 5), ("stop", 5.5), ("kill", 5.75), ("leave", 6.75)],
    ),
    # … or at its time, and it is not asked again before
    (
        (Rung(do="pause", at_s=5, tries=3, wait_s=2), Rung(do="stop", at_s=60, wait_s=4), Rung(do="kill")),
        {"pause": 0.5},
        [("pause", 5), ("stop", 60), ("kill", 64), ("leave", 65)],
    ),
    # declined at the second try
    (
        (Rung(do="pause", at_s=5, tries=3, wait_s=2), Rung(do="kill")),
        {"pause": 2.5},  # each try starts it anew
        [("pause", 5), ("pause", 7), ("pause", 9), ("kill", 11), ("leave", 12)],
    ),
    # a checkpoint that was saved is done with
    (
        (Rung(do="checkpoint", at_s=5), Rung(do="cancel")),
        {"checkpoint": 1},
        [("checkpoint", 5), ("cancel", 6), ("kill", 11), ("leave", 12)],
    ),
    # the next rung's time ends the present one
    (
        (Rung(do="pause", at_s=5, tries=9, wait_s=2), Rung(do="kill", at_s=8)),
        {},
        [("pause", 5), ("pause", 7), ("kill", 8), ("leave", 9)],
    ),
    # … and passes over what has not begun by then
    (
        (Rung(do="pause", at_s=5, tries=9, wait_s=2), Rung(do="stop"), Rung(do="kill", at_s=8)),
        {},
        [("pause", 5), ("pause", 7), ("kill", 8), ("leave", 9)],
    ),
    (
        (Rung(do="cancel", at_s=5, wait_s=0), Rung(do="kill", wait_s=0)),
        {},
        [("cancel", 5), ("kill", 5), ("leave", 5)],
    ),
]


@pytest.mark.parametrize(("rungs", "answers", "walked"), ANSWERS)
def test_rungs_follow_each_other(rungs: tuple[Rung, ...], answers: dict[str, float], walked: Walk) -> None:
    assert walk(Ladder(rungs).for_run(), answers=answers) == walked


def test_loop_that_was_blocked_passes_over_what_is_past() -> None:
    climb = Ladder((Rung(do="pause", at_s=5), Rung(do="stop", at_s=10), Rung(do="cancel", at_s=20))).for_run()
    assert walk(climb, late={5: 7}) == [("stop", 12), ("cancel", 20), ("kill", 25), ("leave", 26)]
    assert walk(climb, late={10: 30}) == [("pause", 5), ("cancel", 40), ("kill", 45), ("leave", 46)]


def test_clean_up_counts_from_when_the_run_was_cancelled() -> None:
    assert walk(Ladder.timeout(30).for_run(), late={30: 8}) == [("cancel", 38), ("kill", 43), ("leave", 44)]


@pytest.mark.parametrize(
    ("position", "until"),
    [
        (Position(0, tried=1, since_s=60), 80),  # two tries of ten seconds
        (Position(0, tried=2, since_s=70), 80),
        (Position(0, tried=2, since_s=75), 85),
        (Position(0, tried=1, since_s=60, over=True), 600),
        (Position(1, tried=1, since_s=90), 600),
        (Position(2, tried=1, since_s=600), 620),
        (Position(3, tried=1, since_s=620), 621),
    ],
)
def test_request_says_until_when_it_waits(position: Position, until: float) -> None:
    climb = Climb(
        (
            Rung(do="checkpoint", at_s=60, tries=2),
            Rung(do="pause"),
            Rung(do="stop", at_s=600, wait_s=20),
            Rung(do="kill"),
        )
    )
    assert until_s(climb, position) == until


def test_defaults_are_those_of_the_configuration() -> None:
    waits = {do: Rung(do=do).patience_s for do in ("warn", "checkpoint", "pause", "stop", "cancel", "kill")}
    asked = rung_times.WAIT_S
    assert waits == {
        "warn": 0, "checkpoint": asked, "pause": asked, "stop": asked, "cancel": CLEANUP_S, "kill": KILL_S,
    }  # fmt: skip


# -------------------------------------------------------------------------- hints

RUN = Ladder((Rung(do="warn", at_s=3000), Rung(do="stop", at_s=3600), Rung(do="kill", at_s=3660)), 7200)


def times(climb: Climb) -> list[float]:
    return [round(start, 6) for start in climb.starts_s]


@pytest.mark.parametrize(
    ("hint", "starts"),
    [
        (Hint(), [3000, 3600, 3660]),
        (Hint(own_s=7200), [6000, 7200, 7260]),
        (Hint(own_s=10**9), [6000, 7200, 7260]),
        (Hint(own_s=1800), [1500, 1800, 1860]),
        (Hint(own_s=3600), [3000, 3600, 3660]),
        (Hint(own_s=0.001), [0.000833, 0.001, 60.001]),
        # Node's default of ten minutes shortens nothing
        (Hint(at_least_s=600), [3000, 3600, 3660]),
        (Hint(at_least_s=5400), [4500, 5400, 5460]),
        (Hint(at_least_s=10**9), [6000, 7200, 7260]),
        (Hint(own_s=1800, at_least_s=5400), [1500, 1800, 1860]),
    ],
)
def test_jobs_own_time_moves_the_first_ending_rung_and_the_others_with_it(hint: Hint, starts: list[float]) -> None:
    assert times(RUN.for_run("free", hint)) == starts


@pytest.mark.parametrize("hint", [Hint(own_s=1), Hint(own_s=10**9), Hint(at_least_s=10**9)])
def test_without_the_operators_leave_jobs_set_nothing(hint: Hint) -> None:
    assert replace(RUN, job_may_set_s=None).for_run("free", hint) == replace(RUN, job_may_set_s=None).for_run("free")


def test_rung_that_follows_a_fallen_one_gets_a_time_by_the_hint() -> None:
    ladder = Ladder((Rung(do="pause", at_s=100, tries=2), Rung(do="stop"), Rung(do="kill")), 1000)
    assert times(ladder.for_run()) == [100, 120, 130]
    assert times(ladder.for_run("free", Hint(own_s=240))) == [200, 240, 250]
    assert walk(ladder.for_run("free", Hint(own_s=240)))[2] == ("stop", 240)


def test_longest_run_of_all_is_known() -> None:
    assert SWARM.end_s == 620 + KILL_S
    assert RUN.end_s == 7260 + KILL_S
    assert Ladder.timeout(30).end_s == 30 + CLEANUP_S + KILL_S


# ----------------------------------------------------------------- wrong ladders


@pytest.mark.parametrize(
    ("rungs", "words"),
    [
        ((), "for free: the first rung needs a time"),
        ((Rung(do="cancel"),), "the first rung needs a time"),
        ((Rung(do="stop", at_s=1),), "the last must be cancel or kill"),
        ((Rung(do="cancel", at_s=1, tiers=FREE),), "for premium: the first rung needs a time"),
        ((Rung(do="warn", at_s=1), Rung(do="kill", tiers=FREE)), "for premium: .* the last must be cancel or kill"),
        ((Rung(do="warn", at_s=2), Rung(do="kill", at_s=1)), "ascend"),
        ((Rung(do="kill", at_s=0),), "positive"),
        ((Rung(do="kill", at_s=-1),), "positive"),
        ((Rung(do="kill", at_s=math.nan),), "positive"),
        ((Rung(do="kill", at_s=math.inf),), "positive"),
    ],
)
def test_ladder_that_leads_nowhere_is_refused(rungs: Any, words: str) -> None:
    with pytest.raises(LadderError, match=words):
        Ladder(rungs)


# ---------------------------------------------------------------- every ladder

seconds = st.floats(min_value=0.001, max_value=315_360_000, allow_nan=False)
waits = st.none() | st.floats(min_value=0.001, max_value=1000)
tiers = st.none() | st.frozensets(st.sampled_from(TIERS), min_size=1)


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    """Any that is legal: rungs of any tier with and without times, and a last one for all."""
    kinds: list[RungName] = draw(st.lists(st.sampled_from(["warn", "checkpoint", "pause", "stop"]), max_size=5))
    last: RungName = draw(st.sampled_from(sorted(FORCING)))
    ats = sorted(draw(st.lists(seconds, min_size=len(kinds) + 1, max_size=len(kinds) + 1)))
    rungs = []
    for at, kind in enumerate([*kinds, last]):
        timed = at == 0 or draw(st.booleans())
        rungs.append(
            Rung(
                do=kind,
                at_s=ats[at] if timed else None,
                tiers=draw(tiers) if 0 < at < len(kinds) else None,
                tries=draw(st.integers(1, 3)) if kind in ASKING else 1,
                wait_s=draw(waits) if kind in ASKING or kind == "cancel" else None,
            )
        )
    return Ladder(tuple(rungs), draw(st.none() | seconds))


hints = st.builds(Hint, st.none() | seconds, st.none() | seconds)
answers = st.dictionaries(st.sampled_from(sorted(ASKING)), st.floats(min_value=0, max_value=50))


@dataclass(frozen=True)
class Case:
    ladder: Ladder
    tier: Tier
    hint: Hint

    @property
    def climb(self) -> Climb:
        return self.ladder.for_run(self.tier, self.hint)


cases = st.builds(Case, ladders(), st.sampled_from(TIERS), hints)


@given(cases, answers)
def test_every_run_ends_in_time_by_rungs_in_their_order(case: Case, answers: dict[str, float]) -> None:
    climb = case.climb
    walked = walk(climb, answers=answers)
    named = [do for do, _ in walked]
    at = [when for _, when in walked]
    assert at == sorted(at)
    assert named[-2:] == ["kill", "leave"] and named.count("kill") == 1 and named.count("leave") == 1
    assert at[-1] <= climb.end_s + 1e-6 * climb.end_s
    order = iter([str(rung.do) for rung in climb.rungs for _ in range(rung.tries)])
    assert all(do in order for do in named[:-1]), "a rung came twice, or before its turn"
    forced = next(when for do, when in walked if do in FORCING)
    assert forced <= climb.cut_s + 1e-6 * climb.cut_s


@given(cases)
def test_unanswered_rungs_begin_when_the_ladder_says(case: Case) -> None:
    climb = case.climb
    begun: dict[int, float] = {}
    walk(climb, begun=begun)
    assert begun
    for at, when in begun.items():
        assert math.isclose(when, climb.starts_s[at], rel_tol=1e-9)
    assert list(climb.starts_s) == sorted(climb.starts_s)
    passed_over = set(range(len(climb.rungs))) - set(begun)
    assert not any(climb.rungs[at].do == "kill" for at in passed_over)


@given(cases)
def test_hint_keeps_order_cap_and_distances(case: Case) -> None:
    plain, moved = case.ladder.for_run(case.tier), case.climb
    first = next(at for at, rung in enumerate(plain.rungs) if rung.do in ENDING)
    if case.ladder.job_may_set_s is None or case.hint == Hint():
        assert moved == plain
        return
    if moved == plain:
        return
    cap = case.ladder.job_may_set_s
    assert moved.starts_s[first] <= max(cap, plain.starts_s[first] if case.hint.own_s is None else 0)
    if case.hint.own_s is None:
        assert moved.starts_s[first] > plain.starts_s[first]
    for before, after in zip(moved.rungs, moved.rungs[1:], strict=False):
        if before.at_s is not None and after.at_s is not None:
            assert before.at_s <= after.at_s
    shift = moved.starts_s[first] - plain.starts_s[first]
    for former, now in zip(plain.rungs[first + 1 :], moved.rungs[first + 1 :], strict=True):
        assert (former.at_s is None) == (now.at_s is None)
        if former.at_s is not None and now.at_s is not None:
            assert math.isclose(now.at_s - former.at_s, shift, rel_tol=1e-6, abs_tol=1e-6)
    assert case.ladder.end_s >= moved.end_s - 1e-6 * moved.end_s


@given(ladders(), st.sampled_from(TIERS), seconds, seconds)
def test_longer_hint_never_gives_less_time(ladder: Ladder, tier: Tier, one: float, other: float) -> None:
    less, more = sorted((one, other))
    for kind in ("own_s", "at_least_s"):
        shorter, longer = (ladder.for_run(tier, replace(Hint(), **{kind: value})) for value in (less, more))
        first = next(at for at, rung in enumerate(shorter.rungs) if rung.do in ENDING)
        assert shorter.starts_s[first] <= longer.starts_s[first]
        assert shorter.cut_s <= longer.cut_s + 1e-6 * longer.cut_s

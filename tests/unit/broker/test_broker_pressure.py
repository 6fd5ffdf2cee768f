"""When a queue is full, until when, and what a producer is told about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.pressure import (
    EASED,
    LATEST_S,
    SOONEST_S,
    UNKNOWN_S,
    Limits,
    Pressure,
    Sample,
    decide,
)
from workers.broker.stats import QueueStats

DEPTH = Limits(depth=100)
AGE = Limits(age_s=60)
BOTH = Limits(depth=100, age_s=60)


def sample(depth: int = 0, age_s: float = 0.0, at: float = 100.0, *, is_paused: bool = False) -> Sample:
    return Sample(at, depth, age_s, is_paused)


@pytest.mark.parametrize(
    ("limits", "now", "was_full", "limit"),
    [
        (Limits(), sample(10**9, 10**9), True, None),
        (DEPTH, sample(99), False, None),
        (DEPTH, sample(100), False, "depth"),  # one more would be the 101st
        (DEPTH, sample(0, 10**6), False, None),
        (DEPTH, sample(99), True, "depth"),
        (DEPTH, sample(90), True, "depth"),
        (DEPTH, sample(89), True, None),
        (AGE, sample(10**6, 59.9), False, None),
        (AGE, sample(1, 60), False, "age"),
        (AGE, sample(1, 54), True, "age"),
        (AGE, sample(1, 53.9), True, None),
        (BOTH, sample(100, 600), False, "age"),  # further beyond its limit
        (BOTH, sample(1000, 61), False, "depth"),
        (BOTH, sample(50, 55), True, "age"),  # full by whichever has not eased
        (Limits(depth=1), sample(1), False, "depth"),
        (Limits(depth=1), sample(0), True, None),
    ],
)
def test_queue_is_full_from_its_limit_on_until_it_has_eased(
    limits: Limits, now: Sample, was_full: bool, limit: str | None
) -> None:
    pressure = decide(now, limits, was_full=was_full)
    assert (pressure.full, pressure.limit) == (limit is not None, limit)


@pytest.mark.parametrize(
    ("limits", "now", "was_full", "reason"),
    [
        (Limits(depth=10_000), sample(12_000), False, "12,000 waiting, limit 10,000"),
        (Limits(depth=10_000), sample(9_500), True, "9,500 waiting, until below 9,000 of the limit of 10,000"),
        (Limits(depth=5), sample(5), True, "5 waiting, limit 5"),
        (AGE, sample(1, 125.04), False, "the oldest waiting job was due 125 s ago, limit 60 s"),
        (AGE, sample(1, 55), True, "the oldest waiting job was due 55 s ago, until below 54 s of the limit of 60 s"),
        (DEPTH, sample(120, is_paused=True), False, "120 waiting, limit 100; the queue is paused"),
    ],
)
def test_reason_has_the_figure_and_the_limit(limits: Limits, now: Sample, was_full: bool, reason: str) -> None:
    assert decide(now, limits, was_full=was_full).reason == reason


@pytest.mark.parametrize(
    ("limits", "trail", "wait_s"),
    [
        (DEPTH, [], UNKNOWN_S),
        (DEPTH, [sample(200, at=99.9)], UNKNOWN_S),  # too short ago to tell
        (DEPTH, [sample(200, at=90)], 10.0 * (150 - 90) / 50),
        (DEPTH, [sample(0, at=50), sample(200, at=90)], 12.0),  # since it was fullest
        (DEPTH, [sample(100, at=90)], LATEST_S),  # it grows
        (DEPTH, [sample(150, at=90)], LATEST_S),  # it stands
        (DEPTH, [sample(151, at=50)], LATEST_S),  # 3,000 s at that rate
        (DEPTH, [sample(10_000, at=90)], SOONEST_S),
        (DEPTH, [sample(200, at=90), sample(500, at=101)], 12.0),  # a sample from later says nothing
    ],
)
def test_time_to_ask_again_follows_the_rate_at_which_it_drains(
    limits: Limits, trail: list[Sample], wait_s: float
) -> None:
    assert decide(sample(150), limits, trail).retry_after_s == pytest.approx(wait_s)


def test_age_drains_too() -> None:
    pressure = decide(sample(5, 100), AGE, [sample(5, 120, at=90)])
    assert pressure.retry_after_s == pytest.approx((100 - 54) / 2)


def test_slowest_of_two_limits_says_when_to_ask_again() -> None:
    trail = [sample(1000, 130, at=90)]
    both = decide(sample(200, 120), BOTH, trail).retry_after_s
    assert both == max(decide(sample(200, 120), limits, trail).retry_after_s for limits in (DEPTH, AGE))


def test_paused_queue_does_not_drain() -> None:
    assert decide(sample(150, is_paused=True), DEPTH, [sample(200, at=90)]).retry_after_s == LATEST_S


def test_sample_takes_what_a_free_worker_would_start() -> None:
    stats = QueueStats(queue="q", waiting=1, paused=2, prioritized=4, delayed=100, due=8, active=16, completed=32)
    assert Sample.of(stats, 7.0) == Sample(7.0, 15, 0.0)
    assert Sample.of(QueueStats(queue="q", oldest_waiting_s=3.5, is_paused=True), 7.0) == Sample(7.0, 0, 3.5, True)


samples = st.builds(
    Sample,
    st.floats(0, 1e6),
    st.integers(0, 10**12),
    st.floats(0, 1e12),
    st.booleans(),
)
limits = st.builds(
    Limits, depth=st.none() | st.integers(1, 10**9), age_s=st.none() | st.floats(0.001, 1e9, allow_nan=False)
)


@given(samples, limits, st.lists(samples, max_size=5), st.booleans())
def test_decision_is_total_and_bounded(now: Sample, limits: Limits, trail: list[Sample], was_full: bool) -> None:
    pressure = decide(now, limits, trail, was_full=was_full)
    if pressure.full:
        assert SOONEST_S <= pressure.retry_after_s <= LATEST_S
        assert pressure.reason and pressure.limit is not None
    else:
        assert pressure == Pressure()


@given(samples, limits, st.booleans())
def test_more_never_makes_it_less_full(now: Sample, limits: Limits, was_full: bool) -> None:
    more = Sample(now.at, now.depth * 2 + 1, now.age_s * 2, now.is_paused)
    assert decide(more, limits, was_full=was_full).full >= decide(now, limits, was_full=was_full).full


@given(st.lists(st.integers(80, 110), min_size=1, max_size=30))
def test_it_does_not_flap(depths: list[int]) -> None:
    """Between two changes of the answer the depth has gone all the way from the limit to below its share, or back."""
    full = False
    for depth in depths:
        before, full = full, decide(sample(depth), DEPTH, was_full=full).full
        if full != before:
            assert depth >= 100 if full else depth < EASED * 100

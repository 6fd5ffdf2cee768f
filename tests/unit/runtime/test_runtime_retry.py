"""From a failure to another attempt or to the end: tables of what applies, properties of every wait."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.endings import Failed, Retry
from workers.contract import JobError, PermanentError, TransientError, Verdict
from workers.runtime.retry import (
    MAX_DELAY_MS,
    Backoff,
    RetryPolicy,
    after_failure,
    attempts_allowed,
    backoff,
    verdict_of,
    wait_ms,
)

HUGE = 10**400  # JSON carries it, a float does not
POLICY = RetryPolicy(attempts=4, delay_s=7, factor=3, max_s=100, jitter=0.5)
OURS = Backoff(delay_ms=7000, factor=3, max_ms=100_000, jitter=0.5)


def decide(**given: Any) -> Failed | Retry:
    values: dict[str, Any] = {"verdict": Verdict(), "attempts_made": 0, "opts": {}, "policy": POLICY, "draw": 1.0}
    return after_failure(reason="r", error="E", stack="s", **{**values, **given})


# ------------------------------------------------------------------- attempts


@pytest.mark.parametrize(
    ("own", "allowed"),
    [
        (3, 3),
        (1, 1),
        (1e9, 1_000_000_000),
        (2.5, 3),  # Node compares: 2 failures < 2.5, so a third attempt follows
        (HUGE, 4),
        (0, 4),  # what Node writes where nothing was said
        (-1, 4),
        (None, 4),
        ("3", 4),
        (True, 4),
        (math.nan, 4),
        (math.inf, 4),
        ([3], 4),
        ({"n": 3}, 4),
    ],
)
def test_attempts_are_the_jobs_own_where_they_make_sense(own: Any, allowed: int) -> None:
    assert attempts_allowed({"attempts": own}, POLICY) == allowed


def test_attempts_of_the_queue_fill_in_and_win_where_they_are_over_the_job() -> None:
    assert attempts_allowed({}, POLICY) == 4
    assert attempts_allowed({"attempts": 9}, RetryPolicy(attempts=2, over_job=frozenset({"attempts"}))) == 2
    assert attempts_allowed({"attempts": 9}, RetryPolicy(attempts=2, over_job=frozenset({"backoff"}))) == 9


# -------------------------------------------------------------------- backoff


@pytest.mark.parametrize(
    ("own", "applies"),
    [
        (5000, Backoff(delay_ms=5000)),
        (0, Backoff(delay_ms=0)),
        ({"type": "fixed", "delay": 100}, Backoff(delay_ms=100)),
        ({"type": "exponential", "delay": 100}, Backoff(delay_ms=100, factor=2)),
        ({"type": "exponential", "settings": {"delay": 2000}}, Backoff(delay_ms=2000, factor=2)),
        ({"type": "exponential", "delay": 1, "settings": {"delay": 2000}}, Backoff(delay_ms=1, factor=2)),
        ({"type": "fixed", "delay": 9, "jitter": 0.25}, Backoff(delay_ms=9, jitter=0.25)),
        ({"type": "fixed", "delay": 9, "jitter": 1.5}, Backoff(delay_ms=9)),
        ({"type": "fixed", "delay": 9, "jitter": -0.1}, Backoff(delay_ms=9)),
        ({"type": "fixed", "delay": 9, "jitter": "1"}, Backoff(delay_ms=9)),
        ({"type": "exponential"}, OURS),
        ({"type": "exponential", "settings": None}, OURS),
        ({"type": "exponential", "settings": {"delay": "2s"}}, OURS),
        ({"type": "custom", "delay": 5}, OURS),
        ({"type": ["fixed"], "delay": 5}, OURS),
        ({"delay": 5}, OURS),
        ({"type": "fixed", "delay": -5}, OURS),
        ({"type": "fixed", "delay": HUGE}, OURS),
        ({"type": "fixed", "delay": math.nan}, OURS),
        (-5, OURS),
        (HUGE, OURS),
        (math.inf, OURS),
        (True, OURS),
        ("5000", OURS),
        ([], OURS),
        (None, OURS),
    ],
)
def test_backoff_is_the_jobs_own_where_it_makes_sense(own: Any, applies: Backoff) -> None:
    assert backoff({"backoff": own}, POLICY) == applies


def test_backoff_of_the_queue_wins_where_it_is_over_the_job() -> None:
    policy = RetryPolicy(delay_s=7, factor=3, max_s=100, jitter=0.5, over_job=frozenset({"backoff"}))
    assert backoff({"backoff": 1}, policy) == OURS
    assert backoff({}, RetryPolicy(delay_s=1)) == Backoff(delay_ms=1000)


def test_backoff_grows_up_to_its_longest_wait() -> None:
    growing = Backoff(delay_ms=2000, factor=2, max_ms=10_000)
    assert [growing.wait_ms(n, 0.5) for n in (0, 1, 2, 3, 4, 5, 10_000)] == [
        2000,
        2000,
        4000,
        8000,
        10_000,
        10_000,
        10_000,
    ]


def test_no_wait_stays_no_wait_however_often_it_is_multiplied() -> None:
    assert Backoff(delay_ms=0, factor=100).wait_ms(10_000, 0.9) == 0


def test_jitter_draws_its_share_alone() -> None:
    wait = Backoff(delay_ms=1000, jitter=0.2)
    assert [wait.wait_ms(1, draw) for draw in (0.0, 0.5, 1.0)] == [800, 900, 1000]
    assert Backoff(delay_ms=1000, jitter=1).wait_ms(1, 0.0) == 0


delays = st.floats(0, 1e12) | st.integers(0, 10**18)
counts = st.integers(1, 60) | st.integers(1, 2**53)
draws = st.floats(0, 1, exclude_max=True)


@given(delay=st.integers(0, 10**6), failures=st.integers(1, 20), draw=draws)
def test_without_jitter_the_wait_is_bullmqs_formula(delay: int, failures: int, draw: float) -> None:
    expected = min(2 ** (failures - 1) * delay, MAX_DELAY_MS)
    assert Backoff(delay_ms=delay, factor=2).wait_ms(failures, draw) == expected
    assert Backoff(delay_ms=delay, factor=1).wait_ms(failures, draw) == delay


@given(
    delay=delays, factor=st.floats(1, 100), longest=st.floats(0.001, 1e15), jitter=draws, failures=counts, draw=draws
)
def test_wait_is_never_negative_and_never_above_its_bounds(
    delay: float, factor: float, longest: float, jitter: float, failures: int, draw: float
) -> None:
    wait = Backoff(delay_ms=delay, factor=factor, max_ms=longest, jitter=jitter).wait_ms(failures, draw)
    assert isinstance(wait, int)
    assert 0 <= wait <= min(longest, MAX_DELAY_MS)


@given(delay=st.floats(0, 1e9), jitter=st.floats(0, 1), failures=st.integers(1, 30), draw=draws)
def test_jitter_stays_within_its_share_of_the_wait(delay: float, jitter: float, failures: int, draw: float) -> None:
    top = min(delay * 2.0 ** (failures - 1), MAX_DELAY_MS)
    wait = Backoff(delay_ms=delay, factor=2, jitter=jitter).wait_ms(failures, draw)
    assert top * (1 - jitter) - 0.51 <= wait <= top + 0.51  # whole milliseconds


# --------------------------------------------------------------------- verdict


class OwnJobError(JobError):
    """A module's."""


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (PermanentError("no"), Verdict(retry=False)),
        (TransientError("wait"), Verdict(retry=True)),
        (TransientError("wait", retry_after_s=9), Verdict(retry=True, retry_after_s=9)),
        (OwnJobError("no"), Verdict(retry=True)),
        (ValueError("no"), Verdict(retry=False, retry_after_s=3)),
    ],
)
def test_job_errors_speak_for_themselves_and_others_are_classified(error: BaseException, verdict: Verdict) -> None:
    assert verdict_of(error, Verdict(retry=False, retry_after_s=3)) == verdict


# -------------------------------------------------------------------- decision


def test_verdict_against_a_retry_fails_whatever_attempts_are_left() -> None:
    assert decide(verdict=Verdict(retry=False)) == Failed(reason="r", error="E", stack="s")


@pytest.mark.parametrize(("made", "ending"), [(0, Retry), (2, Retry), (3, Failed), (4, Failed), (99, Failed)])
def test_attempts_are_counted_with_the_one_that_failed(made: int, ending: type) -> None:
    assert type(decide(attempts_made=made)) is ending


@pytest.mark.parametrize(
    ("after_s", "wait"),
    [
        (None, 7000),
        (1, 7000),
        (9, 9000),
        (0.0001, 7000),
        (-9, 7000),
        (1e306, MAX_DELAY_MS),
        (HUGE, 7000),
        (math.nan, 7000),
        (math.inf, 7000),
        ("9", 7000),
    ],
)
def test_retry_is_not_before_what_the_failure_asks_for(after_s: Any, wait: int) -> None:
    decided = decide(verdict=Verdict(retry_after_s=after_s))
    assert isinstance(decided, Retry)
    assert decided.delay_ms == wait


def test_wait_of_the_second_failure_is_the_second_wait() -> None:
    decided = decide(attempts_made=1, opts={"attempts": 5, "backoff": {"type": "exponential", "delay": 10}})
    assert decided == Retry(reason="r", error="E", stack="s", delay_ms=20)


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(0, 0), (0.0304, 31), (2, 2000), (-1, 0), (1e308, MAX_DELAY_MS), (10**30, MAX_DELAY_MS)],
)
def test_seconds_become_a_delay_that_bullmq_takes(seconds: float, milliseconds: int) -> None:
    assert wait_ms(seconds) == milliseconds


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(HUGE)
json_values = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)
backoffs = json_values | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["fixed", "exponential", "custom"]) | json_values,
        "delay": numbers,
        "jitter": numbers,
        "settings": st.fixed_dictionaries({}, optional={"delay": numbers}) | json_values,
    },
)
opts = st.fixed_dictionaries({}, optional={"attempts": json_values, "backoff": backoffs})
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 1000),
    delay_s=st.floats(0, 1e9),
    factor=st.floats(1, 100),
    max_s=st.none() | st.floats(0.001, 1e9),
    jitter=st.floats(0, 1),
    over_job=st.frozensets(st.sampled_from(["attempts", "backoff"])),
)
verdicts = st.builds(Verdict, retry=st.booleans(), retry_after_s=st.none() | st.floats() | st.integers())


@given(opts=opts, policy=policies, verdict=verdicts, made=st.integers(0, 2**53 - 1), draw=draws)
def test_any_options_lead_to_a_decision_within_bounds(
    opts: dict[str, Any], policy: RetryPolicy, verdict: Verdict, made: int, draw: float
) -> None:
    decided = decide(opts=opts, policy=policy, verdict=verdict, attempts_made=made, draw=draw)
    if isinstance(decided, Retry):
        assert 0 <= decided.delay_ms <= MAX_DELAY_MS
        assert verdict.retry
        assert made + 1 < attempts_allowed(opts, policy)
    else:
        assert not verdict.retry or made + 1 >= attempts_allowed(opts, policy)

"""From a failure to another attempt or to the end: tables of what applies, properties of every wait."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.task_section import TaskConfig
from workers.broker.endings import Failed, Retry
from workers.contract import FailureClass, RateLimitError, Verdict
from workers.runtime.retry import (
    FINAL,
    MAX_DELAY_MS,
    Backoff,
    RetryPolicy,
    after_failure,
    attempts_allowed,
    backoff,
    verdict_of,
    wait_ms,
)
from workers.runtime.settings import retry_policy

HUGE = 10**400  # JSON carries it, a float does not
POLICY = RetryPolicy(attempts=4, delay_s=7, factor=3, max_s=100, jitter=0.5)
OURS = Backoff(delay_ms=7000, factor=3, max_ms=100_000, jitter=0.5)
POLICY_OF_A_MINUTE = RetryPolicy(attempts=4, max_wait_s=60)


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


# ------------------------------------------------------------------------ caps


@pytest.mark.parametrize(("own", "allowed"), [(3, 3), (10, 10), (11, 10), (10**9, 10), (HUGE, 4), (0, 4), ("9", 4)])
def test_attempts_that_a_job_asks_for_are_cut_at_their_cap(own: Any, allowed: int) -> None:
    assert attempts_allowed({"attempts": own}, RetryPolicy(attempts=4, max_attempts=10)) == allowed


def test_caps_of_the_configuration_reach_the_policy() -> None:
    retry = {"attempts": 3, "backoff": "2s x2 max 5m", "caps": {"attempts": 10, "wait": "1h"}}
    policy = retry_policy(TaskConfig.model_validate({"timeout": "1s", "retry": retry}).retry)
    assert (policy.attempts, policy.max_attempts, policy.max_wait_s) == (3, 10, 3600)


def test_attempts_of_the_queue_know_no_cap() -> None:
    assert attempts_allowed({}, RetryPolicy(attempts=20, max_attempts=10)) == 20
    policy = RetryPolicy(attempts=20, max_attempts=10, over_job=frozenset({"attempts"}))
    assert attempts_allowed({"attempts": 5}, policy) == 20


@pytest.mark.parametrize(
    ("opts", "made", "wait"),
    [
        ({"backoff": 5000}, 0, 5000),
        ({"backoff": 70_000}, 0, 60_000),
        ({"backoff": {"type": "exponential", "delay": 20_000}}, 1, 40_000),
        ({"backoff": {"type": "exponential", "delay": 20_000}}, 2, 60_000),
        ({"backoff": {"type": "exponential", "delay": 20_000, "jitter": 0.5}}, 9, 60_000),
        ({}, 0, 120_000),
        ({"backoff": {"type": "custom", "delay": 5}}, 0, 120_000),
    ],
)
def test_waits_that_a_job_asks_for_are_cut_and_those_of_the_queue_are_not(opts: Any, made: int, wait: int) -> None:
    policy = RetryPolicy(attempts=20, delay_s=120, max_wait_s=60)
    decided = decide(opts=opts, policy=policy, attempts_made=made)
    assert isinstance(decided, Retry)
    assert decided.delay_ms == wait


@pytest.mark.parametrize(
    ("custom_s", "after_s", "wait"),
    [(5, None, 5000), (70, None, 60_000), (10**30, None, 60_000), (5, 90, 90_000), (70, 90, 90_000), (70, 9, 60_000)],
)
def test_wait_of_a_custom_backoff_is_cut_too_and_one_that_the_failure_asks_for_is_not(
    custom_s: float, after_s: float | None, wait: int
) -> None:
    decided = decide(verdict=Verdict(retry_after_s=after_s), policy=POLICY_OF_A_MINUTE, custom_s=custom_s)
    assert isinstance(decided, Retry)
    assert decided.delay_ms == wait


# -------------------------------------------------------------------- decision


def test_verdict_against_a_retry_fails_whatever_attempts_are_left() -> None:
    assert decide(verdict=Verdict(retry=False)) == Failed(reason="r", error="E", stack="s", failure="permanent")


@pytest.mark.parametrize("failure", get_args(FailureClass))
def test_ending_carries_the_kind_and_a_final_kind_is_the_end(failure: FailureClass) -> None:
    decided = decide(verdict=Verdict(failure=failure))
    assert decided.failure == failure
    assert type(decided) is (Failed if failure in FINAL else Retry)
    assert decide(verdict=Verdict(failure=failure), attempts_made=99).failure == failure


def test_never_means_never_whatever_job_and_failure_ask_for() -> None:
    config = TaskConfig.model_validate({"timeout": "1s", "retry": "never"})
    policy = retry_policy(config.retry)
    decided = decide(opts={"attempts": 99, "backoff": 1}, policy=policy, verdict=Verdict(retry_after_s=1))
    assert isinstance(decided, Failed)


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
    assert decided == Retry(reason="r", error="E", stack="s", delay_ms=20, failure="transient")


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
    max_attempts=st.none() | st.integers(1, 1000),
    max_wait_s=st.floats(0.001, 1e9),
)
kinds = st.sampled_from([None, *get_args(FailureClass)])
verdicts = st.builds(Verdict, retry=st.booleans(), retry_after_s=st.none() | st.floats() | st.integers(), failure=kinds)


@given(opts=opts, policy=policies, verdict=verdicts, made=st.integers(0, 2**53 - 1), draw=draws)
def test_any_options_lead_to_a_decision_within_bounds(
    opts: dict[str, Any], policy: RetryPolicy, verdict: Verdict, made: int, draw: float
) -> None:
    decided = decide(opts=opts, policy=policy, verdict=verdict, attempts_made=made, draw=draw)
    assert decided.failure == (verdict.failure or ("transient" if verdict.retry else "permanent"))
    may_follow = verdict.retry and decided.failure not in FINAL and made + 1 < attempts_allowed(opts, policy)
    assert isinstance(decided, Retry if may_follow else Failed)
    if isinstance(decided, Retry):
        assert 0 <= decided.delay_ms <= MAX_DELAY_MS


@given(opts=opts, policy=policies, verdict=verdicts, draw=draws)
def test_job_that_always_fails_makes_no_more_attempts_than_policy_and_caps_allow(
    opts: dict[str, Any], policy: RetryPolicy, verdict: Verdict, draw: float
) -> None:
    policy = replace(policy, attempts=min(policy.attempts, 30), max_attempts=min(policy.max_attempts or 30, 30))
    made = 0
    while isinstance(decide(opts=opts, policy=policy, verdict=verdict, attempts_made=made, draw=draw), Retry):
        made += 1
    assert made + 1 <= (policy.attempts if "attempts" in policy.over_job else 30)


@given(own=backoffs, policy=policies, made=st.integers(0, 50), draw=draws, custom_s=st.none() | st.floats(0, 1e12))
def test_wait_stays_within_the_caps_of_whoever_asks_for_it(
    own: Any, policy: RetryPolicy, made: int, draw: float, custom_s: float | None
) -> None:
    policy = replace(policy, attempts=100, over_job=frozenset({"attempts"}))
    decided = decide(opts={"backoff": own}, policy=policy, attempts_made=made, draw=draw, custom_s=custom_s)
    assert isinstance(decided, Retry)
    ours = Backoff(
        delay_ms=policy.delay_s * 1000,
        factor=policy.factor,
        max_ms=MAX_DELAY_MS if policy.max_s is None else policy.max_s * 1000,
    )
    longest = max(policy.max_wait_s * 1000, ours.wait_ms(made + 1, draw))
    assert decided.delay_ms <= math.ceil(longest)


@given(policy=policies, after_s=st.floats(0, 1e7), draw=draws)
def test_rate_limit_of_upstream_is_waited_for_whatever_backoff_there_is(
    policy: RetryPolicy, after_s: float, draw: float
) -> None:
    verdict = verdict_of(RateLimitError("429", retry_after_s=after_s))
    decided = decide(opts={"attempts": 2}, policy=replace(policy, attempts=2, max_attempts=None), verdict=verdict)
    assert isinstance(decided, Retry)
    assert decided.failure == "rate-limited"
    assert decided.delay_ms >= min(after_s * 1000, MAX_DELAY_MS) - 1

"""Leaks are found, sized and laid to the right type; what comes back or comes to an end is none."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.runtime.leak import MAX_WINDOWS, MIN_RUNS, MIN_WINDOWS, SEVERAL, Run, Window, slope_of_runs, slopes

KB, MB = 1e3, 1e6
Growth = Callable[[Counter[str]], float]
Mix = Callable[[random.Random], dict[str, int]]


def one(chance: random.Random) -> dict[str, int]:
    return {"mail": chance.randint(150, 350)}


def two(chance: random.Random) -> dict[str, int]:
    return {"mail": chance.randint(0, 300), "swarm": chance.randint(0, 300)}


def always_together(chance: random.Random) -> dict[str, int]:
    return {"mail": 150, "swarm": 150}


def history(
    growth: Growth, mix: Mix = one, *, number: int = MAX_WINDOWS, noise: float = 0.0, seed: int = 1
) -> list[Window]:
    """What a process would have shown whose memory grows like this with the jobs that have ended."""
    chance, done, windows = random.Random(seed), Counter[str](), []
    for _ in range(number):
        jobs = mix(chance)
        done.update(jobs)
        windows.append(Window(int(90 * MB + growth(done) + chance.uniform(0, noise)), jobs))
    return windows


def saw(done: Counter[str], *, period: int, height: float) -> float:
    return done.total() % period / period * height


NO_LEAK: dict[str, Growth] = {
    "no growth": lambda done: 0.0,
    "memory that is freed every 1,000 jobs": lambda done: saw(done, period=1000, height=20 * MB),
    "memory that is freed every 3,000 jobs": lambda done: saw(done, period=3000, height=60 * MB),
    "one growth, early": lambda done: 80 * MB * (done.total() > 1000),
    "one growth, late": lambda done: 80 * MB * (done.total() > 9000),
    "two growths": lambda done: 50 * MB * ((done.total() > 3000) + (done.total() > 8000)),
    "a cache that is full after 6,000 jobs": lambda done: 10 * KB * min(done.total(), 6000),
    "an allocator that gets to its size": lambda done: 100 * MB * (1 - math.exp(-done.total() / 2500)),
    "memory that is given back": lambda done: -5 * KB * done.total(),
}


@pytest.mark.parametrize("noise", [0.0, 1 * MB, 4 * MB], ids=["calm", "noisy", "noisier"])
@pytest.mark.parametrize("growth", NO_LEAK.values(), ids=NO_LEAK)
def test_growth_that_ends_or_comes_back_is_no_leak(growth: Growth, noise: float) -> None:
    for seed in range(5):
        assert slopes(history(growth, noise=noise, seed=seed)) == {}


@given(
    leak=st.floats(2 * KB, 500 * KB),
    noise=st.floats(0, 0.02),
    number=st.integers(MIN_WINDOWS, MAX_WINDOWS),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_leak_is_found_within_a_fifth(leak: float, noise: float, number: int, seed: int) -> None:
    grown = leak * number * 250
    found = slopes(history(lambda done: leak * done["mail"], number=number, noise=noise * grown, seed=seed))
    assert found is not None
    assert list(found) == ["mail"]
    assert found["mail"] == pytest.approx(1000 * leak, rel=0.2)


def test_leak_is_found_in_memory_that_is_partly_freed() -> None:
    leaks: Growth = lambda done: 10 * KB * done.total() + saw(done, period=1000, height=10 * MB)  # noqa: E731
    assert slopes(history(leaks)) == pytest.approx({"mail": 10 * MB}, rel=0.2)


@given(leak=st.floats(5 * KB, 500 * KB), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_of_two_types_the_one_that_leaks_is_blamed(leak: float, seed: int) -> None:
    found = slopes(history(lambda done: leak * done["swarm"], two, noise=1 * MB, seed=seed))
    assert found == pytest.approx({"swarm": 1000 * leak}, rel=0.2)


def test_two_types_that_leak_get_their_own_share() -> None:
    leaks: Growth = lambda done: 10 * KB * done["mail"] + 30 * KB * done["swarm"]  # noqa: E731
    found = slopes(history(leaks, two, noise=1 * MB))
    assert found == pytest.approx({"mail": 10 * MB, "swarm": 30 * MB}, rel=0.2)


def test_types_that_always_come_together_are_not_told_apart() -> None:
    found = slopes(history(lambda done: 20 * KB * done["swarm"], always_together, noise=1 * MB))
    assert found == pytest.approx({SEVERAL: 10 * MB}, rel=0.2)


@given(noise=st.floats(0.5 * MB, 8 * MB), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_innocent_type_is_not_blamed_where_the_mix_hardly_changes(noise: float, seed: int) -> None:
    def nearly(chance: random.Random) -> dict[str, int]:
        mails = 150 + chance.randint(-5, 5)
        return {"mail": mails, "swarm": 300 - mails}

    found = slopes(history(lambda done: 20 * KB * done["swarm"], nearly, noise=noise, seed=seed))
    assert found is not None
    assert "mail" not in found


def test_rare_type_is_left_out() -> None:
    windows = history(lambda done: 10 * KB * done["mail"], lambda chance: {"mail": 300, "rare": 1})
    assert slopes(windows) == pytest.approx({"mail": 10 * MB}, rel=0.05)


def test_few_windows_say_nothing() -> None:
    assert slopes(history(lambda done: 1 * MB * done.total(), number=MIN_WINDOWS - 1)) is None
    assert slopes([]) is None


@given(
    st.lists(
        st.builds(
            Window,
            st.integers(0, 10**12),
            st.dictionaries(st.sampled_from(["a", "b", "c", *(f"t{n}" for n in range(20))]), st.integers(0, 10**6)),
        ),
        max_size=MAX_WINDOWS,
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_was_measured_slopes_are_finite_and_above_zero(windows: list[Window]) -> None:
    found = slopes(windows)
    assert (found is None) is (len(windows) < MIN_WINDOWS)
    assert all(slope > 0 and math.isfinite(slope) for slope in (found or {}).values())


# ------------------------------------------------------------------- isolated jobs


def child_runs(delta: Callable[[int, random.Random], float], *, jobs: int = 400, recycle: int = 10**9) -> list[Run]:
    """The runs of one process and its successors; `delta` gets the number of the job in its process."""
    chance, runs, size = random.Random(1), [], 40 * MB
    for n in range(jobs):
        nth = n % recycle
        if not nth:
            size = 40 * MB
        grows = delta(nth, chance)
        runs.append(Run(int(size), int(grows)))
        size += grows
    return runs


def paged(leak: float) -> Callable[[int, random.Random], float]:
    """Memory grows by pages, now and then."""
    return lambda nth, chance: 4096.0 * (chance.random() < leak / 4096) if leak < 4096 else leak


@pytest.mark.parametrize("recycle", [10**9, 100])
@pytest.mark.parametrize("leak", [2 * KB, 10 * KB, 1 * MB])
def test_leak_of_isolated_jobs_is_found_within_a_fifth(leak: float, recycle: int) -> None:
    assert slope_of_runs(child_runs(paged(leak), recycle=recycle)) == pytest.approx(1000 * leak, rel=0.2)


NO_LEAK_APART: dict[str, list[Run]] = {
    "nothing grows": child_runs(lambda nth, chance: 0.0),
    "the first jobs of each process fill its caches": child_runs(
        lambda nth, chance: 1 * MB * (nth < 20), recycle=100
    ),
    "cyclic garbage is freed now and then": child_runs(
        lambda nth, chance: -1.95 * MB if nth % 40 == 39 else 50 * KB
    ),
    "noise": child_runs(lambda nth, chance: chance.uniform(-1, 1) * MB),
    "memory is given back": child_runs(lambda nth, chance: -10 * KB),
}  # fmt: skip


@pytest.mark.parametrize("runs", NO_LEAK_APART.values(), ids=NO_LEAK_APART)
def test_isolated_jobs_that_do_not_leak_have_no_slope(runs: list[Run]) -> None:
    assert slope_of_runs(runs) == 0.0


def test_few_runs_say_nothing() -> None:
    assert slope_of_runs(child_runs(paged(1 * MB), jobs=MIN_RUNS - 1)) is None


@given(st.lists(st.builds(Run, st.integers(0, 10**12), st.integers(-(10**12), 10**12)), max_size=400))
@settings(deadline=None)
def test_whatever_runs_were_measured_the_slope_is_finite_and_not_below_zero(runs: list[Run]) -> None:
    slope = slope_of_runs(runs)
    assert slope is None or (slope >= 0 and math.isfinite(slope))

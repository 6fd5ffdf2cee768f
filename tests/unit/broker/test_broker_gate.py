"""Which jobs do not get in, and what a last start changes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, RateLimited, Retry
from workers.broker.gate import TOO_OFTEN, Gate
from workers.broker.settings import WorkerSettings

RETRY = Retry(reason="r", error="E", delay_ms=10, stack="S", failure="rate-limited")
LAST = Failed(reason="r", error="E", stack="S", failure="rate-limited")


class Backend:
    """Says what is left of a limit, or fails; counts how often it was asked."""

    def __init__(self, left_ms: int | Exception = 0) -> None:
        self.left_ms = left_ms
        self.asked = 0

    async def limit_left_ms(self) -> int:
        self.asked += 1
        if isinstance(self.left_ms, Exception):
            raise self.left_ms
        return self.left_ms


class Doors:
    """A gate with what it told."""

    def __init__(self, left_ms: int | Exception = 0, **settings: Any) -> None:
        self.backend = Backend(left_ms)
        self.held: list[int] = []
        self.errors: list[tuple[str, str]] = []
        self.gate = Gate(
            cast(FleetBackend, self.backend),
            WorkerSettings(name="w", **settings),
            self.held.append,
            lambda error, where, job_id: self.errors.append((where, job_id)),
        )


def job(**fields: Any) -> Activation:
    return Activation(**{"queue": "q", "id": "7", "token": "t", **fields})


async def test_first_start_asks_nothing_and_gets_in() -> None:
    doors = Doors(left_ms=5000)
    assert await doors.gate.ending(job()) is None
    assert doors.backend.asked == 0


async def test_deferred_failure_comes_first() -> None:
    doors = Doors(left_ms=5000, max_starts=1)
    ending = await doors.gate.ending(job(deferred_failure="job stalled more than allowable limit", fence=9))
    assert ending == Failed(reason="job stalled more than allowable limit", error="Deferred", failure="crashed")
    assert doors.backend.asked == 0


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("job stalled more than allowable limit", "crashed"),
        ("its process died 3 times while it ran", "crashed"),
        ("child bull:kids:a failed", "permanent"),
        ("child bull:kids:a\nfailed failed", "permanent"),
        ("child failed", "crashed"),
    ],
)
async def test_deferred_failure_is_a_crash_unless_a_child_failed(words: str, failure: str) -> None:
    ending = await Doors().gate.ending(job(deferred_failure=words))
    assert ending == Failed(reason=words, error="Deferred", failure=failure)


@pytest.mark.parametrize(("start", "gets_in"), [(1, True), (3, True), (4, False), (100, False)])
async def test_start_above_the_limit_fails_in_bullmqs_words(start: int, gets_in: bool) -> None:
    ending = await Doors(max_starts=3).gate.ending(job(fence=start))
    assert ending == (None if gets_in else Failed(reason=TOO_OFTEN, error="StartedTooOften", failure="permanent"))


async def test_job_that_was_started_before_meets_the_limit_and_holds_its_worker_back() -> None:
    doors = Doors(left_ms=1500)
    ending = await doors.gate.ending(job(fence=2))
    assert ending == HandedBack(reason="the queue is rate limited for 1.5 s")
    assert doors.held == [1500]


async def test_worker_with_a_rate_of_its_own_leaves_the_limit_to_the_script() -> None:
    doors = Doors(left_ms=1500, limiter={"max": 1, "duration": 1000})
    assert await doors.gate.ending(job(fence=2)) is None
    assert doors.backend.asked == 0


async def test_limit_that_cannot_be_asked_for_is_reported_and_lets_in() -> None:
    doors = Doors(left_ms=ConnectionError())
    assert await doors.gate.ending(job(fence=2)) is None
    assert doors.errors == [("limit", "7")]


@pytest.mark.parametrize(
    ("ending", "start", "max_starts", "becomes"),
    [
        (RETRY, 2, 3, RETRY),
        (RETRY, 3, 3, LAST),
        (RETRY, 4, 3, LAST),
        (RETRY, 1000, None, RETRY),
        (Delayed(delay_ms=1, reason="r"), 3, 3, Delayed(delay_ms=1, reason="r")),
        (Completed(result=1), 3, 3, Completed(result=1)),
    ],
)
def test_no_attempt_follows_the_last_start(ending: Ending, start: int, max_starts: int | None, becomes: Ending) -> None:
    assert Doors(max_starts=max_starts).gate.after(ending, job(fence=start)) == becomes


def test_limit_that_a_run_met_holds_its_worker_back_at_once() -> None:
    doors = Doors()
    ending = RateLimited(delay_ms=700, reason="429")
    assert doors.gate.after(ending, job()) == ending
    assert doors.held == [700]


@given(st.integers(1, 50), st.integers(1, 50))
async def test_job_that_always_fails_is_started_no_more_than_allowed(limit: int, attempts: int) -> None:
    gate = Doors(max_starts=limit).gate
    starts = 0
    while True:
        starts += 1
        now = job(fence=starts)
        assert await gate.ending(now) is None
        ending = gate.after(RETRY if starts < attempts else Failed(reason="r", error="E"), now)
        if isinstance(ending, Failed):
            break
    assert starts == min(limit, attempts)

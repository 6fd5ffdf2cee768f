"""One held job: which interrupt counts, and a Redis that is away is reported, not felt."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, FleetBackend
from workers.broker.hold import Hold, Interrupt


class Backend:
    """Notes what it is told, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self._error = error

    async def updateProgress(self, job_id: str, value: Any) -> None:
        self._tell(job_id, value)

    async def addLog(self, job_id: str, line: str, keep: int) -> None:
        self._tell(job_id, line, keep)

    def _tell(self, *what: Any) -> None:
        if self._error is not None:
            raise self._error
        self.told.append(what)


def hold(backend: Backend | None = None, errors: list[Any] | None = None, **opts: Any) -> Hold:
    job = Activation(queue="q", id="7", token="t", opts=opts)
    heard = errors if errors is not None else []
    return Hold(job, cast(FleetBackend, backend), lambda error, where, job_id: heard.append((error, where, job_id)))


LATE, NEAR = Interrupt("drain", "r", 20.0), Interrupt("drain", "r", 10.0)
LOST, LOST_AGAIN = Interrupt("lock_lost", "r", 30.0), Interrupt("lock_lost", "r", 1.0)


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (LATE, NEAR, NEAR),
        (NEAR, LATE, NEAR),
        (NEAR, Interrupt("drain", "other", 10.0), NEAR),
        (NEAR, LOST, LOST),
        (LOST, NEAR, LOST),
        (LOST, LOST_AGAIN, LOST),
    ],
)
async def test_lock_lost_and_the_nearer_drain_count(first: Interrupt, second: Interrupt, counts: Interrupt) -> None:
    held = hold()
    held.ask_back(first)
    held.interrupted.clear()
    held.ask_back(second)
    assert held.interrupt == counts
    assert held.interrupted.is_set() is (counts == second != first)


async def test_progress_and_log_reach_bullmq() -> None:
    backend = Backend()
    held = hold(backend, kl=5)
    await held.progress({"percent": 50})
    await held.log("line\ud800")
    await hold(backend, kl="many").log("x" * 10**6)
    assert backend.told[:2] == [("7", {"percent": 50}), ("7", "line?", 5)]
    assert len(backend.told[2][1]) == MAX_REASON and backend.told[2][2] == 0


async def test_redis_that_is_away_is_reported_and_not_felt() -> None:
    errors: list[Any] = []
    away = RedisConnectionError("away")
    held = hold(Backend(away), errors)
    await held.progress(5)
    await held.log("line")
    assert errors == [(away, "progress", "7"), (away, "log", "7")]


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), {"x": b"raw"}])
async def test_progress_that_is_no_json_is_the_processors_error(value: Any) -> None:
    backend = Backend()
    with pytest.raises((TypeError, ValueError)):
        await hold(backend).progress(value)
    assert backend.told == []


async def test_progress_is_told_once_redis_has_it() -> None:
    told: list[Any] = []
    job = Activation(queue="q", id="7", token="t")
    for backend in (Backend(), Backend(RedisConnectionError("away"))):
        held = Hold(job, cast(FleetBackend, backend), lambda *error: None, on_progress=told.append)
        await held.progress(50)
    assert told == [50]

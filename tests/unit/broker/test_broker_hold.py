"""One held job: which interrupt counts, and a Redis that is away is reported, not felt."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, FleetBackend
from workers.broker.checkpoints import NotOursError
from workers.broker.hold import Hold, Interrupt


class Backend:
    """Notes what its scripts are told, or fails, or refuses."""

    keys: ClassVar = {"events": "b:q:events", "meta": "b:q:meta"}

    def __init__(self, error: Exception | None = None, *, refuses: bool = False) -> None:
        self.told: list[tuple[list[str], list[Any]]] = []
        self.conn = self
        self._error = error
        self._reply = -1 if refuses else 0

    def toKey(self, name: str) -> str:
        return f"b:q:{name}"

    def register_script(self, text: str) -> Any:
        return self._run

    async def _run(self, *, keys: list[str], args: list[Any]) -> int:
        if self._error is not None:
            raise self._error
        self.told.append((keys, args))
        return self._reply


def hold(backend: Backend | None = None, errors: list[Any] | None = None, **opts: Any) -> Hold:
    job = Activation(queue="q", id="7", token="t", fence=4, opts=opts)
    heard = errors if errors is not None else []
    return Hold(job, cast(FleetBackend, backend), lambda error, where, job_id: heard.append((error, where, job_id)))


LATE, NEAR = Interrupt("drain", "r", 20.0), Interrupt("drain", "r", 10.0)
CANCEL, CANCEL_NOW = Interrupt("cancel", "c", 15.0, 5.0), Interrupt("cancel", "c", 5.0, 5.0)
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
        (CANCEL, LOST, LOST),
        (LOST, CANCEL, LOST),
        (LATE, CANCEL, CANCEL),
        (CANCEL, LATE, CANCEL),
        (CANCEL, CANCEL_NOW, CANCEL_NOW),
        (CANCEL_NOW, CANCEL, CANCEL_NOW),
        (NEAR, CANCEL, Interrupt("cancel", "c", 10.0, 1.0)),
        (CANCEL, NEAR, Interrupt("cancel", "c", 10.0, 1.0)),
    ],
)
async def test_graver_interrupt_counts_and_the_nearer_time(
    first: Interrupt, second: Interrupt, counts: Interrupt
) -> None:
    held = hold()
    held.ask_back(first)
    held.interrupted.clear()
    held.ask_back(second)
    assert held.interrupt == counts
    assert held.interrupted.is_set() is (counts != first)


async def test_progress_and_log_reach_bullmq() -> None:
    backend = Backend()
    held = hold(backend, kl=5)
    await held.progress({"percent": 50})
    await held.log("line\ud800")
    await hold(backend, kl="many").log("x" * 10**6)
    (row, events, meta, lock), said = backend.told[0]
    assert (row, events, meta, lock) == ("b:q:7", "b:q:events", "b:q:meta", "b:q:7:lock")
    assert said == ["7", '{"percent":50}', "t", 4]
    assert backend.told[1] == (["b:q:7", "b:q:7:logs", "b:q:7:lock"], ["7", "line?", "5", "t", 4])
    _, (_, long, keep, *_) = backend.told[2]
    assert len(long) == MAX_REASON and keep == ""


async def test_redis_that_is_away_is_reported_and_not_felt() -> None:
    errors: list[Any] = []
    away = RedisConnectionError("away")
    held = hold(Backend(away), errors)
    await held.progress(5)
    await held.log("line")
    assert errors == [(away, "progress", "7"), (away, "log", "7")]


@pytest.mark.parametrize("do", ["progress", "log"])
async def test_run_that_may_not_write_any_more_has_lost_its_job(do: str) -> None:
    errors: list[Any] = []
    told: list[Any] = []
    job = Activation(queue="q", id="7", token="t")
    backend = cast(FleetBackend, Backend(refuses=True))
    held = Hold(job, backend, lambda *error: errors.append(error), on_progress=told.append)
    await (held.progress(5) if do == "progress" else held.log("line"))
    [(error, where, _)] = errors
    assert isinstance(error, NotOursError) and where == do
    assert str(error).endswith("of job 7 was not saved: another run may have the job")
    assert held.interrupt is not None and held.interrupt.kind == "lock_lost"
    assert told == []


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


# --------------------------------------------------------------------- children


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[1]}', {"a": [1]}),
        ("", None),
        ("plain", "plain"),
        ('{"a":NaN}', '{"a":NaN}'),
        ("1e400", "1e400"),
        ("9" * 5000, "9" * 5000),
        ("[" * 5000, "[" * 5000),
    ],
)
async def test_result_of_a_child_that_is_no_json_is_given_as_it_is(text: str, value: Any) -> None:
    class Stored(Backend):
        async def getProcessedChildrenValues(self, job_id: str) -> dict[str, str]:
            return {f"bull:q:of-{job_id}": text}

    assert await hold(Stored()).children_values() == {"bull:q:of-7": value}

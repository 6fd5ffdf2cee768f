"""What may be a checkpoint, and a Redis that is away while one is saved, read or forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.conftest import wait_until
from workers.broker import hold as holds
from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.checkpoints import (
    KEPT_MS,
    MAX_CHECKPOINT,
    Checkpoints,
    CorruptCheckpointError,
    NotOursError,
    encoded,
)
from workers.broker.client import NotSentError, ReplyLostError
from workers.broker.endings import (
    AwaitingChildren,
    Completed,
    Delayed,
    Ending,
    Failed,
    HandedBack,
    Lost,
    Requeued,
    Retry,
)
from workers.broker.hold import Hold, Interrupt
from workers.broker.keys import CHECKPOINT_FIELD
from workers.broker.reconnect import Reconnect

AWAY = RedisConnectionError("away")
LOST = ReplyLostError("lost", None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_comes_back_as_it_was(state: Any) -> None:
    text = encoded(state)
    text.encode()  # lone surrogates are escaped
    assert json.loads(text) == state


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({1, 2}, TypeError, "not JSON serializable"),
        (b"raw", TypeError, "not JSON serializable"),
        ({("a", "b"): 1}, TypeError, "keys must be"),
        (float("nan"), ValueError, "not JSON compliant"),
        ([float("-inf")], ValueError, "not JSON compliant"),
        pytest.param(10**5000, ValueError, "digits", id="huge"),
    ],
)
def test_what_json_does_not_have_is_the_processors_error(state: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encoded(state)


def test_cycle_and_depth_are_the_processors_error() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for state in (cycle, deep):
        with pytest.raises(ValueError, match=r"Circular|nested"):
            encoded(state)


@pytest.mark.parametrize(("fill", "size"), [("x", 1), ("é", 2), ("😀", 4)])
def test_one_megabyte_is_the_most(fill: str, size: int) -> None:
    most = (MAX_CHECKPOINT - 2) // size  # and two quotation marks
    assert len(encoded(fill * most).encode()) <= MAX_CHECKPOINT
    with pytest.raises(ValueError, match=r"has 1,048,\d+ bytes, more than the 1,048,576 that are kept"):
        encoded(fill * (most + 1))


class Store(Checkpoints):
    """Answers from a list, in place of Redis; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[tuple[Any, ...]] = []

    async def _answer(self, *what: Any) -> Any:
        self.told.append(what)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def save(self, job: Activation, mark: str, text: str) -> None:
        await self._answer("save", mark, text)

    async def load(self, job: Activation) -> Any:
        return await self._answer("load")

    def settle(self, job_id: str, mark: str, ending: Ending) -> None:
        self.told.append(("settle", mark, ending))


def hold(store: Checkpoints | None, errors: list[Any] | None = None, *, marked: bool = False) -> Hold:
    job = Activation(queue="q", id="7", token="t", raw={CHECKPOINT_FIELD: "m"} if marked else {})
    heard = errors if errors is not None else []

    def on_error(error: BaseException, where: str, job_id: str) -> None:
        heard.append((error, where, job_id))

    return Hold(job, cast(FleetBackend, None), on_error, checkpoints=store)


DONE = Completed(result=None)


async def test_state_is_saved_under_the_mark_of_the_job() -> None:
    store = Store()
    new, old = hold(store), hold(store, marked=True)
    assert await new.checkpoint({"page": 1}) and await new.checkpoint({"page": 2}) and await old.checkpoint(3)
    (_, first, text), (_, second, _), (_, third, _) = store.told
    assert first == second != third == "m"
    assert text == '{"page":1}'
    assert len(first) >= 16


@pytest.mark.parametrize("state", [float("nan"), {1}, "x" * (MAX_CHECKPOINT + 1)])
async def test_state_that_can_not_be_stored_raises_before_redis_is_asked(state: Any) -> None:
    store = Store()
    with pytest.raises((TypeError, ValueError)):
        await hold(store).checkpoint(state)
    assert store.told == []


@pytest.mark.parametrize(
    ("error", "may_be_stored"),
    [(AWAY, False), (NotSentError("no"), False), (ResponseError("OOM"), False), (LOST, True)],
)
async def test_redis_that_is_away_is_reported_and_not_felt(error: Exception, may_be_stored: bool) -> None:
    errors: list[Any] = []
    store = Store(error)
    held = hold(store, errors)
    assert await held.checkpoint(1) is False
    assert errors == [(error, "checkpoint", "7")] and held.interrupt is None
    held.settle_checkpoint(DONE)
    assert (len(store.told) == 2) is may_be_stored


async def test_lost_lock_is_reported_and_interrupts_the_run() -> None:
    errors: list[Any] = []
    held = hold(Store(NotOursError("7")), errors)
    assert await held.checkpoint(1) is False
    assert str(errors[0][0]) == "the checkpoint of job 7 was not saved: another run may have the job"
    assert held.interrupt is not None and held.interrupt.kind == "lock_lost"


async def test_run_that_is_cancelled_while_it_saves_may_have_saved() -> None:
    store = Store(asyncio.CancelledError())
    held = hold(store)
    with pytest.raises(asyncio.CancelledError):
        await held.checkpoint(1)
    held.settle_checkpoint(DONE)
    assert [what[0] for what in store.told] == ["save", "settle"]


async def test_worker_without_a_store_says_so() -> None:
    errors: list[Any] = []
    held = hold(None, errors)
    assert await held.checkpoint(1) is False
    assert await held.restored() is None
    held.settle_checkpoint(DONE)
    assert "keeps no checkpoints" in str(errors[0][0])


async def test_job_that_never_saved_costs_nothing() -> None:
    store = Store()
    held = hold(store)
    assert await held.restored() is None
    held.settle_checkpoint(DONE)
    assert store.told == []


async def test_what_was_saved_is_restored() -> None:
    assert await hold(Store({"page": 3}), marked=True).restored() == {"page": 3}


async def test_redis_that_comes_back_in_time_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "RESTORE_S", 20.0)
    errors: list[Any] = []
    assert await hold(Store(AWAY, LOST, "state"), errors, marked=True).restored() == "state"
    assert [error[0] for error in errors] == [AWAY, LOST]


@pytest.mark.parametrize("error", [CorruptCheckpointError("7", "no"), ResponseError("WRONGTYPE"), ZeroDivisionError()])
async def test_what_can_not_be_read_is_reported_and_not_tried_again(error: Exception) -> None:
    errors: list[Any] = []
    store = Store(error, "state")
    assert await hold(store, errors, marked=True).restored() is None
    assert errors == [(error, "checkpoint", "7")] and len(store.told) == 1


async def test_redis_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "RESTORE_S", 0.15)
    store = Store(*[AWAY] * 1000)
    assert await hold(store, marked=True).restored() is None
    assert len(store.told) < 10


async def test_slot_that_is_wanted_back_waits_for_no_checkpoint() -> None:
    store = Store(*[AWAY] * 1000)
    held = hold(store, marked=True)
    held.ask_back(Interrupt("drain", "r", 0.0))
    assert await held.restored() is None
    assert len(store.told) == 1


async def test_slot_that_is_wanted_back_meanwhile_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that it would wait for an hour, then ask once more."""
    monkeypatch.setattr(holds, "RESTORE_S", 7200.0)
    monkeypatch.setattr(Reconnect, "wait_s", lambda self, failures: 3600.0)
    store = Store(AWAY, "state")
    held = hold(store, marked=True)
    restoring = asyncio.create_task(held.restored())
    await wait_until(lambda: store.told)
    held.ask_back(Interrupt("drain", "r", 0.0))
    assert await asyncio.wait_for(restoring, 20) is None
    assert len(store.told) == 1


class Client:
    """Notes scripts and commands; the second kind waits for `gate`."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    def register_script(self, text: str) -> Callable[..., Any]:
        async def run(keys: list[str], args: list[Any]) -> int:
            return await self._note(keys, args)

        return run

    async def pexpire(self, key: str, ms: int) -> int:
        return await self._note(key, ms)

    async def _note(self, *what: Any) -> int:
        self.ran.append(what)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return 1


KEY = "fleet:{b}:q:checkpoint:7"


@pytest.mark.parametrize(
    ("ending", "ran"),
    [
        (DONE, [([KEY], ["m"])]),
        (Failed(reason="r", error="E"), [([KEY], ["m"])]),
        (Retry(reason="r", error="E", delay_ms=5), [(KEY, KEPT_MS + 5)]),
        (Delayed(reason="r", delay_ms=86_400_000), [(KEY, KEPT_MS + 86_400_000)]),
        (Requeued(reason="r"), [(KEY, KEPT_MS)]),
        (AwaitingChildren(reason="r"), [(KEY, KEPT_MS)]),
        (HandedBack(reason="r"), []),
        (Lost(reason="r"), []),
    ],
)
async def test_checkpoint_of_a_job_that_goes_on_is_kept(ending: Ending, ran: list[Any]) -> None:
    client = Client()
    store = Checkpoints(cast(Redis, client), "{b}", "q", lambda *error: None)
    store.settle("7", "m", ending)
    await store.close()
    assert client.ran == ran


async def test_what_fails_after_the_ending_is_reported() -> None:
    client, errors = Client(), []
    client.error = AWAY
    store = Checkpoints(cast(Redis, client), "{b}", "q", lambda *error: errors.append(error))
    store.settle("7", "m", DONE)
    await wait_until(lambda: errors)
    assert errors == [(AWAY, "checkpoint", "7")]
    await store.close()


async def test_end_does_not_wait_for_what_hangs() -> None:
    client = Client()
    client.gate.clear()
    store = Checkpoints(cast(Redis, client), "{b}", "q", lambda *error: None)
    store.settle("7", "m", DONE)
    store.settle("8", "m", DONE)
    await store.close(0.0)
    await wait_until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

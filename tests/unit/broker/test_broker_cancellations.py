"""When a worker looks for requests to stop its jobs, and which of them it heeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.cancellations import CLEANUP_S, GRACE_S, Cancellations, CancelRequest
from workers.broker.endings import CANCELLED, Completed, Failed, Lost
from workers.broker.hold import Hold


class Client:
    """Answers MGET with what lies beside the jobs, and notes what is asked."""

    def __init__(self, **requests: str) -> None:
        self.requests = requests
        self.asked: list[list[str]] = []
        self.settled: list[tuple[list[str], list[Any]]] = []
        self.data = '{"status":"Canceling"}'
        self.error: Exception | None = None

    async def mget(self, names: list[str]) -> list[str | None]:
        self.asked.append([name.rpartition(":")[2] for name in names])
        if self.error is not None:
            raise self.error
        return [self.requests.get(name.rpartition(":")[2]) for name in names]

    async def get(self, name: str) -> str | None:
        return self.requests.get(name.rpartition(":")[2])

    async def hmget(self, name: str, fields: list[str]) -> list[str]:
        return [self.data, "100"]

    def register_script(self, text: str) -> Any:
        async def run(keys: list[str], args: list[Any]) -> int:
            self.settled.append((keys, args))
            return 1

        return run


def held(job_id: str, timestamp: str = "100") -> Hold:
    job = Activation(queue="q", id=job_id, token="t", raw={"timestamp": timestamp})
    return Hold(job, cast(FleetBackend, None), lambda error, where, job_id: None)


def request(reason: str = "cancelled by ann", job: str = "100") -> str:
    return CancelRequest(job=job, reason=reason, at_ms=5).text()


class Rig:
    """A second passes when the test says so."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.holds: set[Hold] = set()
        self.errors: list[tuple[BaseException, str, str]] = []
        self._ticks: asyncio.Queue[None] = asyncio.Queue()
        self.waits = 0

        async def sleep(seconds: float) -> None:
            self.waits += 1
            await self._ticks.get()

        monkeypatch.setattr("workers.broker.cancellations.asyncio.sleep", sleep)
        note = lambda *error: self.errors.append(error)  # noqa: E731
        self.looks = Cancellations(cast(Any, client), "b", "q", lambda: self.holds, note)

    async def pass_a_second(self) -> None:
        before = self.waits
        self._ticks.put_nowait(None)
        for _ in range(20):
            await _turn()
            if self.waits > before:
                return


async def _turn() -> None:
    """One turn of the loop; `asyncio.sleep` is the rig's."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


Make = Callable[[Client], Rig]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda client: Rig(client, monkeypatch)


async def started(rig: Rig) -> asyncio.Task[None]:
    task = asyncio.create_task(rig.looks.run())
    await _turn()
    return task


async def test_only_jobs_that_were_there_a_second_ago_are_looked_for(make: Make) -> None:
    rig = make(client := Client())
    task = await started(rig)
    await rig.pass_a_second()
    for n in range(3):  # each lasts less than a second
        rig.holds = {held(str(n))}
        await rig.pass_a_second()
    assert client.asked == []
    await rig.pass_a_second()
    rig.holds = {*rig.holds, held("new")}
    await rig.pass_a_second()
    assert client.asked == [["2"], ["2"]]
    task.cancel()


async def test_request_interrupts_its_job_once(make: Make) -> None:
    rig = make(client := Client(a=request(), b=request(job="99"), c="rubbish", d='{"job": []}', e="[]"))
    holds = {name: held(name) for name in "abcdef"}
    rig.holds = set(holds.values())
    task = await started(rig)
    for _ in range(3):
        await rig.pass_a_second()
    assert [name for name, hold in holds.items() if hold.cancelled] == ["a"]
    interrupt = holds["a"].interrupt
    assert interrupt is not None
    assert (interrupt.kind, interrupt.reason, interrupt.cleanup_s) == ("cancel", "cancelled by ann", CLEANUP_S)
    assert 0 < interrupt.by - time.monotonic() <= GRACE_S
    assert [sorted(names) for names in client.asked] == [list("abcdef"), list("bcdef")]
    task.cancel()


async def test_redis_that_is_away_is_told_and_asked_again(make: Make) -> None:
    rig = make(client := Client(a=request()))
    rig.holds = {held("a")}
    client.error = RedisConnectionError("away")
    task = await started(rig)
    for _ in range(3):
        await rig.pass_a_second()
    assert [(where, job_id) for _, where, job_id in rig.errors] == [("cancel", "")] * 2
    client.error = None
    await rig.pass_a_second()
    assert next(iter(rig.holds)).cancelled
    task.cancel()


async def test_user_who_may_not_read_the_requests_hears_it_once(make: Make) -> None:
    rig = make(client := Client())
    rig.holds = {held("a")}
    client.error = NoPermissionError("no")
    task = await started(rig)
    for _ in range(3):
        await rig.pass_a_second()
    await asyncio.wait_for(task, 5)
    assert len(rig.errors) == 1


@pytest.mark.parametrize(
    ("ending", "cancelled", "status"),
    [
        (Failed(reason="r", error=CANCELLED), False, "Failed"),
        (Failed(reason="r", error="Error"), True, "Failed"),
        (Completed(result=1), True, "Completed"),
        (Completed(result=1), False, None),
        (Failed(reason="r", error="Error"), False, None),
        (Lost(reason="r"), True, None),
    ],
)
async def test_what_a_cancelled_job_leaves_is_settled(ending: Any, cancelled: bool, status: str | None) -> None:
    client = Client(a=request())
    looks = Cancellations(cast(Any, client), "b", "q", list, lambda *error: None)
    hold = held("a")
    if cancelled:
        await looks._look([hold])
    looks.settle(hold, ending)
    await looks.close(5.0)
    if status is None:
        assert client.settled == []
        return
    ((names, args),) = client.settled
    assert names == ["b:q:a", "fleet:b:q:cancel:a"]
    assert args == [request(), client.data, f'{{"status":"{status}"}}']


@pytest.mark.parametrize("data", ['{"status":"Scheduled"}', "[]", "{", ""])
async def test_status_that_says_something_else_by_then_is_left(data: str) -> None:
    client = Client(a=request(job="99"))
    client.data = data
    looks = Cancellations(cast(Any, client), "b", "q", list, lambda *error: None)
    looks.settle(held("a"), Failed(reason="r", error=CANCELLED))
    await looks.close(5.0)
    assert client.settled == [(["b:q:a", "fleet:b:q:cancel:a"], ["", "", ""])]

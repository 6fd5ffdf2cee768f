"""The process around its workers: from the first look at Redis to the last connection closed, whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import wait_until
from workers.broker.preflight import ServerRefusedError
from workers.broker.reconnect import Reconnect
from workers.runtime import process as module
from workers.runtime.process import FleetProcess, State

pytestmark = pytest.mark.usefixtures("complaints")

NEVER = 3600.0


@dataclass(frozen=True)
class Health:
    ok: bool
    detail: str


class Worker:
    """What FleetProcess knows of a FleetWorker."""

    def __init__(self, *, drains: bool = True) -> None:
        self.is_up = True
        self.drained = True
        self.running = False
        self.bys: list[float] = []
        self.death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drains = drains

    async def start(self) -> None:
        self.running = True

    async def wait(self) -> None:
        await asyncio.shield(self.death)

    async def stop(self, *, by: float) -> None:
        self.bys.append(by)
        self.running = False
        while not self._drains and time.monotonic() < min(self.bys):
            self.drained = False
            await asyncio.sleep(0.001)

    def health(self) -> Health:
        return Health(self.running, "busy" if self.running else "idle")


class World:
    """A process with what surrounds it."""

    def __init__(self) -> None:
        self.examinations = 0
        self.log: list[str] = []
        self.workers: dict[str, Worker] = {}
        self.queues: dict[str, Callable[[AsyncExitStack], Awaitable[Any]]] = {}

    async def examine(self) -> None:
        self.examinations += 1

    def connections(self) -> int:
        return 3

    async def close(self) -> None:
        self.log.append("redis closed")

    def serve(
        self,
        queue: str,
        *,
        opening: Callable[[], Awaitable[None]] | None = None,
        closing: Callable[[], Awaitable[None]] | None = None,
        drains: bool = True,
    ) -> None:
        """Add a queue whose module opens and closes like this."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[None]:
            if opening is not None:
                await opening()
            try:
                yield
            finally:
                if closing is not None:
                    await closing()
                self.log.append(f"{queue} closed")

        async def open_queue(stack: AsyncExitStack) -> Any:
            await stack.enter_async_context(opened())
            self.workers[queue] = Worker(drains=drains)
            return self.workers[queue]

        self.queues[queue] = open_queue

    def process(self) -> FleetProcess:
        return FleetProcess(
            name="p",
            examine=self.examine,
            queues=self.queues,
            close=self.close,
            redis="redis://here:1",
            reconnect=Reconnect(0.001, 0.004),
            connections=self.connections,
        )


@pytest.fixture
async def world() -> World:
    world = World()
    world.serve("a")
    world.serve("b")
    return world


async def stop(process: FleetProcess, in_s: float = 20.0) -> None:
    await process.stop(by=time.monotonic() + in_s)


async def hangs() -> None:
    await asyncio.Event().wait()


# ------------------------------------------------------------------------ life


async def test_process_serves_its_queues_and_closes_them_in_reverse(world: World) -> None:
    process = world.process()
    assert (process.ready, process.started) == (False, False)
    assert process.states() == [
        State("redis", False, "not asked yet"),
        State("a", False, "not open yet"),
        State("b", False, "not open yet"),
    ]
    await process.start()
    await wait_until(lambda: process.ready)
    assert process.started
    assert process.health() == State("p", True, "serving a, b")
    assert process.states()[0] == State("redis", True, "redis://here:1, 3 connections")
    waiting = asyncio.create_task(process.wait())
    await stop(process)
    await waiting
    assert process.drained
    assert not process.ready
    assert process.states()[0] == State("draining", False, "shutting down")
    assert world.log == ["b closed", "a closed", "redis closed"]


async def test_lost_connection_of_one_worker_is_shown(world: World) -> None:
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    world.workers["b"].is_up = False
    assert not process.ready
    assert process.health() == State("p", False, "redis: redis://here:1 does not answer")
    await stop(process)


async def test_second_start_and_start_after_stop_are_refused(world: World) -> None:
    process = world.process()
    await process.start()
    with pytest.raises(RuntimeError):
        await process.start()
    await stop(process)
    other = world.process()
    await stop(other)
    with pytest.raises(RuntimeError):
        await other.start()
    await other.wait()
    assert other.drained


async def test_stop_right_after_start_opens_nothing_and_closes_redis(world: World) -> None:
    process = world.process()
    await process.start()
    await stop(process)
    await process.wait()
    assert process.drained
    assert world.workers == {}
    assert world.log == ["redis closed"]


# ----------------------------------------------------------------- before serving


async def test_redis_that_comes_later_is_waited_for(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def examine() -> None:
        world.examinations += 1
        if world.examinations < 4:
            raise RedisConnectionError("Connection refused" if world.examinations < 3 else "")

    world.examine = examine  # type: ignore[method-assign]
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    assert world.examinations == 4
    lines = [record.message for record in caplog.records if "trying again" in record.message]
    assert lines[0] == "redis://here:1 does not answer (Connection refused); trying again in 0.0 s (redis.url)"
    assert "(ConnectionError)" in lines[2]
    await stop(process)


async def test_redis_that_is_away_is_shown_and_the_process_stops_all_the_same(world: World) -> None:
    async def examine() -> None:
        raise OSError(111, "Connection refused")

    world.examine = examine  # type: ignore[method-assign]
    process = world.process()
    await process.start()
    await wait_until(lambda: "Connection refused" in process.states()[0].detail)
    assert not process.ready
    await stop(process)
    await process.wait()
    assert process.drained
    assert world.log == ["redis closed"]


async def test_redis_that_hangs_does_not_hold_up_the_stop(world: World) -> None:
    world.examine = hangs  # type: ignore[method-assign]
    process = world.process()
    await process.start()
    await asyncio.sleep(0)
    await stop(process, NEVER)
    await process.wait()
    assert process.drained


async def test_server_that_must_not_be_used_ends_the_process(world: World) -> None:
    async def examine() -> None:
        raise ServerRefusedError("may evict keys")

    world.examine = examine  # type: ignore[method-assign]
    process = world.process()
    await process.start()
    with pytest.raises(ServerRefusedError, match="evict"):
        await process.wait()
    await stop(process)
    assert world.log == ["redis closed"]


async def test_module_that_does_not_open_ends_the_process_and_closes_the_others(world: World) -> None:
    async def opening() -> None:
        raise ValueError("no such host")

    world.serve("c", opening=opening)
    process = world.process()
    await process.start()
    with pytest.raises(ValueError, match="no such host"):
        await process.wait()
    assert not process.started
    assert not world.workers["a"].running
    assert world.log == ["b closed", "a closed", "redis closed"]
    await stop(process)


@pytest.mark.parametrize("stops", [1, 2])
async def test_module_that_hangs_while_opening_does_not_hold_up_the_stop(world: World, stops: int) -> None:
    begun = asyncio.Event()

    async def opening() -> None:
        begun.set()
        await hangs()

    world.serve("c", opening=opening)
    process = world.process()
    await process.start()
    await begun.wait()
    await asyncio.gather(*(stop(process, NEVER) for _ in range(stops)))
    await process.wait()
    assert process.drained
    assert not any(worker.running or worker.bys for worker in world.workers.values())
    assert world.log == ["b closed", "a closed", "redis closed"]


async def test_stop_while_a_module_opens_that_can_not_be_interrupted_serves_nothing(world: World) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def opening() -> None:
        begun.set()
        try:
            await go.wait()
        except asyncio.CancelledError:
            return

    world.serve("c", opening=opening)
    process = world.process()
    await process.start()
    await begun.wait()
    await stop(process, NEVER)
    await process.wait()
    assert not any(worker.running for worker in world.workers.values())
    assert world.log == ["c closed", "b closed", "a closed", "redis closed"]


# ------------------------------------------------------------------------ the end


async def test_worker_that_dies_by_itself_ends_the_process_after_the_others_drained(world: World) -> None:
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    world.workers["a"].death.set_exception(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        await process.wait()
    assert [len(worker.bys) for worker in world.workers.values()] == [1, 1]
    assert world.workers["b"].bys[0] < time.monotonic() + module.DEATH_GRACE_S
    assert world.log == ["b closed", "a closed", "redis closed"]
    await stop(process)


async def test_second_stop_hurries_the_workers_and_a_later_one_does_not_slow_them(world: World) -> None:
    world.serve("slow", drains=False)
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    first = asyncio.create_task(stop(process, NEVER))
    await wait_until(lambda: world.workers["slow"].bys)
    hurry = time.monotonic() + 0.2
    await asyncio.gather(process.stop(by=hurry), stop(process, NEVER))
    await first
    bys = world.workers["a"].bys
    assert bys[0] > time.monotonic() + NEVER / 2
    assert len(bys) == 3
    assert all(by <= hurry for by in bys[1:])


async def test_workers_get_most_of_a_short_time_and_never_a_past_one(world: World) -> None:
    for in_s, share in ((20.0, module.CLOSE_S), (1.0, module.CLOSE_SHARE)):
        process = world.process()
        await process.start()
        await wait_until(lambda process=process: process.ready)  # type: ignore[misc]
        by = time.monotonic() + in_s
        await process.stop(by=by)
        assert 0 < by - world.workers["a"].bys[0] <= share


async def test_worker_that_does_not_drain_is_told(world: World) -> None:
    world.serve("slow", drains=False)
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    await stop(process, 0.05)
    await process.wait()
    assert not process.drained


async def test_worker_that_never_stops_is_given_up(world: World) -> None:
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)

    async def never(*, by: float) -> None:
        await hangs()

    world.workers["a"].stop = never  # type: ignore[method-assign]
    await stop(process, 0.05)
    await process.wait()
    assert not process.drained
    assert world.log == ["b closed", "a closed", "redis closed"]


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_module_that_does_not_close_changes_nothing_about_the_drain(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.05)

    async def closing() -> None:
        if how == "raises":
            raise OSError("connection reset")
        await hangs()

    world.serve("c", closing=closing)
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    await stop(process)
    await process.wait()
    assert process.drained
    assert world.log == ["b closed", "a closed", "redis closed"]
    assert "closing what the queues had opened failed" in caplog.text


async def test_module_that_refuses_to_close_does_not_keep_the_process(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = asyncio.Event()

    async def closing() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    world.serve("c", closing=closing)
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    waiting = asyncio.create_task(process.wait())
    await stop(process, 0.05)
    await waiting
    assert process.drained
    assert "ends although something in it does not" in caplog.text
    released.set()
    await wait_until(lambda: "redis closed" in world.log)


async def test_stop_after_the_end_and_twice_at_once_are_harmless(world: World) -> None:
    process = world.process()
    await process.start()
    await wait_until(lambda: process.ready)
    await asyncio.gather(stop(process), stop(process))
    await stop(process)
    await process.wait()
    assert process.drained
    assert world.log == ["b closed", "a closed", "redis closed"]

"""Producers are let into a real queue until it is full, and again when it has drained; without Redis nobody waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from tests.faults import FaultProxy
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted
from workers.broker.hold import Hold
from workers.queue_service import Admission, Limits, QueueFull, QueueUnavailableError, StatsReader

Make = Callable[..., Admission]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Services on clients of their own."""
    made: list[tuple[Admission, Redis]] = []

    def make(endpoint: Endpoint, timeout_s: float = 5.0, **limits: Any) -> Admission:
        client = endpoint.commands()
        service = Admission(StatsReader(client, endpoint.prefix), {"q": Limits(**limits)}, timeout_s=timeout_s)
        made.append((service, client))
        return service

    yield make
    for service, client in made:
        await service.close()
        await client.aclose()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def admitted(service: Admission) -> bool:
    await service.refresh()
    try:
        await service.admit("q")
    except QueueFull:
        return False
    return True


async def test_queue_fills_refuses_and_takes_again_once_it_has_drained(
    make: Make, endpoint: Endpoint, queue: Any, make_worker: MakeWorker
) -> None:
    gate = asyncio.Semaphore(0)

    async def work(job: Activation, hold: Hold) -> Ending:
        await gate.acquire()
        return Completed(result=None)

    service = make(endpoint, depth=10)
    added = 0
    while await admitted(service):
        await queue.add("n", {}, {"priority": added % 3})
        added += 1
    assert added == 10
    made = await make_worker(work)  # holds one, so that nine wait

    async def waiting() -> Any:
        await service.refresh()
        state = service.state("q")
        return state is not None and state.stats.active == 1

    await wait_until(waiting)
    with pytest.raises(QueueFull, match=r"9 waiting, until below 9 of the limit of 10 \(queues\.q\.limits\.depth\)"):
        await service.admit("q")
    gate.release()
    await wait_until(lambda: made.of(JobCompleted))
    await wait_until(waiting)
    assert await admitted(service)
    for _ in range(9):
        gate.release()
    await wait_until(lambda: len(made.of(JobCompleted)) == 10)


async def test_old_job_closes_the_queue_however_few_there_are(make: Make, endpoint: Endpoint, queue: Any) -> None:
    await queue.add("n", {}, {"timestamp": round(time.time() * 1000) - 120_000})
    with pytest.raises(
        QueueFull, match=r"the oldest waiting job was due 1[2-9]\d.* s ago, limit 60 s \(.*limits\.age\)"
    ):
        await make(endpoint, age_s=60.0).admit("q")
    assert await admitted(make(endpoint, age_s=3600.0))


async def test_server_that_is_gone_refuses_at_once_and_serves_again(
    make: Make, make_server: Callable[..., Server]
) -> None:
    server = make_server()
    service = make(Endpoint(url=server.url), depth=10)
    await service.admit("q")
    server.stop()
    assert await service.refresh() is not None
    await _refused(service)
    server.start()

    async def again() -> Any:
        return await service.refresh() is None

    await wait_until(again)
    await service.admit("q")


@pytest.mark.parametrize("connected", [False, True])
async def test_server_that_says_nothing_is_not_waited_for_longer_than_a_command_may_take(
    make: Make, valkey: Server, prefix: str, connected: bool
) -> None:
    async with FaultProxy(valkey.port) as proxy:
        endpoint = Endpoint(url=proxy.url, prefix=prefix, connect_timeout_s=60.0, command_timeout_s=60.0)
        service = make(endpoint, timeout_s=0.3, depth=10)
        if connected:
            assert await service.refresh() is None
        proxy.black_hole()
        if not connected:
            assert max(await asyncio.gather(*(_refused(service) for _ in range(10)))) < 20.0
        assert await service.refresh() == "no answer within 0.3 s"
        assert max(await asyncio.gather(*(_refused(service) for _ in range(10)))) < 20.0


async def _refused(service: Admission) -> float:
    """How long it took to be refused, seconds."""
    start = time.monotonic()
    with pytest.raises(QueueUnavailableError):
        await service.admit("q")
    return time.monotonic() - start

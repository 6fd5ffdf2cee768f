"""Hazards H1, H2, H9, H16 and H17 of the package's worker: what it does while it has little or nothing to do."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.conftest import MakeWorker, Server, wait_until
from workers.broker.activation import Activation
from workers.broker.doorman import Doorman
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import ConnectionChanged, JobCompleted, JobLost, WorkerError
from workers.broker.hold import Hold
from workers.broker.keys import client_name

WORKERS = Path(__file__).parents[3] / "workers"


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def calls(redis: Redis, *commands: str) -> int:
    """How often the server has run these commands."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{command}", {}).get("calls", 0) for command in commands)


# ------------------------------------------------------------- H1: idle deafness


@pytest.fixture
def short_default_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py gives up on any reply after its default of 5 s; here after 0.4 s."""
    for made in (AbstractConnection.__init__, Redis.__init__):
        defaults = inspect.unwrap(made).__kwdefaults__
        assert defaults["socket_timeout"] == 5
        monkeypatch.setitem(defaults, "socket_timeout", 0.4)


@pytest.mark.usefixtures("short_default_time_out")
async def test_idle_block_outlasts_the_default_time_out_of_the_client(
    make_worker: MakeWorker, queue: Any, redis: Redis, redis_url: str, prefix: str
) -> None:
    """H1: each idle poll of the stock worker ends in a time-out and a silent back-off, during which it is deaf."""
    async with Redis.from_url(redis_url) as stock:
        with pytest.raises(RedisTimeoutError):
            await stock.bzpopmin(f"{prefix}:none", 1)

    async def connection() -> Any:
        name = client_name(prefix, "q", "w0")
        return "".join(client["id"] for client in await redis.client_list() if client["name"] == name)

    made = await make_worker(drain_delay_s=1.0)
    first = await wait_until(connection)
    blocks = await calls(redis, "bzpopmin")

    async def blocked_twice() -> Any:
        return await calls(redis, "bzpopmin") >= blocks + 2

    await wait_until(blocked_twice)
    assert await connection() == first
    assert not made.of(WorkerError)
    await queue.add("n", {})
    await wait_until(lambda: made.of(JobCompleted))


# --------------------------------------------- H2: QueueEvents dies of the same time-out


def test_nothing_in_fleet_reads_the_event_stream_through_the_package() -> None:
    """H2: the package's QueueEvents loses events while it backs off and ends for good at its first error. Fleet's own
    events are values that never pass through Redis.
    """
    files = sorted(WORKERS.rglob("*.py"))
    assert len(files) > 50
    for path in files:
        names = {
            node.name if isinstance(node, ast.alias) else node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.alias | ast.Attribute)
        }
        assert not any("QueueEvents" in name or "queue_events" in name for name in names), path


# ------------------------------------------------ H9: one command in flight a worker


async def test_command_that_waits_for_its_reply_holds_up_neither_renewal_nor_other_slots(
    make_worker: MakeWorker, queue: Any, prefix: str
) -> None:
    """H9: the stock worker's client has one connection and locks it for each whole round trip."""
    asked = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        if job.id == "slow":
            asked.set()
            await made.worker.backend.conn.blpop([f"{prefix}:none"], 2.5)
        return Completed(result=None)

    made = await make_worker(work, slots=2, lock_ms=1000, stalled_interval_ms=300)
    await queue.add("n", {}, {"jobId": "slow"})
    await asked.wait()
    await queue.add("n", {}, {"jobId": "quick"})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert [event.job_id for event in made.of(JobCompleted)] == ["quick", "slow"]
    assert not made.of(JobLost)
    assert not made.of(WorkerError)


# --------------------------------------------- H16: a start without Redis, a silent end


async def test_worker_that_starts_before_redis_does_serves_as_soon_as_it_is_there(
    make_worker: MakeWorker, make_server: Callable[..., Server]
) -> None:
    """H16: the stock worker's run() names its connection before any retry, and its failure is never told."""
    server = make_server()
    server.stop()
    made = await make_worker(endpoint=Endpoint(url=server.url))
    await wait_until(lambda: made.of(ConnectionChanged))
    server.start()
    queue = Queue("q", {"connection": server.url})
    await queue.add("n", {})
    await queue.close()
    await wait_until(lambda: made.of(JobCompleted))
    assert [event.up for event in made.of(ConnectionChanged)] == [False, True]


async def test_defect_that_ends_a_slot_is_raised_to_whoever_waits_for_the_worker(
    make_worker: MakeWorker, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H16: no end of the worker is silent."""

    async def breaks(self: Doorman, token: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Doorman, "next", breaks)
    made = await make_worker(slots=2)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(made.worker.wait(), 5)
    assert not made.worker.health().ok
    assert "2 of 2 slots died" in made.worker.health().detail


# ------------------------------------------------------------- H17: the idle burst


async def test_one_job_wakes_one_slot_of_a_hundred(make_worker: MakeWorker, make_server: Callable[..., Server]) -> None:
    """H17: what a job costs that comes alone does not grow with the free slots (the stock worker: 166 scripts)."""
    server = make_server()
    made = await make_worker(endpoint=Endpoint(url=server.url), slots=100, drain_delay_s=5.0)
    queue = Queue("q", {"connection": server.url})
    async with Redis.from_url(server.url, decode_responses=True, protocol=2) as redis:

        async def waits() -> Any:
            return any(client["cmd"] == "bzpopmin" for client in await redis.client_list())

        await wait_until(waits)
        assert await calls(redis, "evalsha") <= 6  # one fetch and one stalled check, with the scripts' first loading
        before = 0
        for done in range(1, 12):
            await wait_until(waits)
            if done == 2:  # by now the server knows the scripts: no call fails for want of one
                before = await calls(redis, "evalsha", "eval")
            await queue.add("n", {})
            await wait_until(lambda done=done: len(made.of(JobCompleted)) == done)  # type: ignore[misc]
        await wait_until(waits)
        scripts = await calls(redis, "evalsha", "eval") - before
    await queue.close()
    assert scripts <= 5 * 10  # add, fetch, finish, and two looks that find nothing more

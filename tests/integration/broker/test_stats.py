"""Depths of real queues, in agreement with BullMQ's own counts, whatever else lies under their keys."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bullmq import FlowProducer, Queue
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import MakeWorker, Server, wait_until
from tests.round_trips import RoundTrips
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobFailed
from workers.broker.hold import Hold
from workers.broker.stats import EARLIEST_MS, QueueStats, StatsReader, WorkerSeen

NOW = 1_800_000_000_000
Read = Callable[..., Awaitable[QueueStats]]


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[Redis]:
    client = endpoint.commands()
    yield client
    await client.aclose()


@pytest.fixture
def read(client: Redis, prefix: str) -> Read:
    async def read(**options: Any) -> QueueStats:
        return (await StatsReader(client, prefix, **options).read(["q"]))["q"]

    return read


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def test_each_state_is_counted_as_bullmq_counts_it(
    make_worker: MakeWorker, queue: Any, redis_url: str, prefix: str, read: Read
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        if job.name == "stays":
            await hold.interrupted.wait()
        return Failed(reason="no", error="E") if job.name == "fails" else Completed(result=None)

    for name in ("completes", "completes", "fails", "stays"):
        await queue.add(name, {})
    made = await make_worker(work)
    await wait_until(lambda: any(event.job_name == "stays" for event in made.of(JobActive)))
    assert len(made.of(JobCompleted)) == 2 and len(made.of(JobFailed)) == 1
    await queue.add("waits", {})
    await queue.add("waits", {}, {"priority": 5})
    await queue.add("waits", {}, {"delay": 60_000})
    flows = FlowProducer({"connection": redis_url, "prefix": prefix})
    await flows.add({"name": "parent", "queueName": "q", "children": [{"name": "child", "queueName": "other"}]})
    await flows.close()
    stats = await read()
    counts = await queue.getJobCounts()
    assert {name: number for name, number in stats.counts.items() if name != "paused"} == {
        name: counts[name] for name in stats.counts if name != "paused"
    }
    assert (stats.active, stats.waiting, stats.prioritized, stats.delayed, stats.waiting_children) == (1, 1, 1, 1, 1)
    assert stats.due == 0 and stats.backlog == 2 and not stats.problems


async def test_due_jobs_that_nobody_fetches_are_waiting_ones(queue: Any, read: Read) -> None:
    for delay in (1, 2, 600_000):
        await queue.add("n", {}, {"delay": delay})

    async def due() -> Any:
        return (await read()).due == 2

    await wait_until(due)
    stats = await read()
    assert (stats.delayed, stats.backlog, stats.waiting) == (3, 2, 0)
    assert stats.oldest_waiting_s is not None and stats.oldest_waiting_s < 60


@pytest.mark.parametrize("lifo", [False, True])
async def test_oldest_is_found_at_either_end(queue: Any, read: Read, lifo: bool) -> None:
    now = round(time.time() * 1000)
    for age_s in (100, 50, 10):
        await queue.add("n", {}, {"timestamp": now - age_s * 1000, "lifo": lifo})
    stats = await read(clock=lambda: now)
    assert stats.oldest_waiting_s == 100


def row(age_s: float = 0.0, *, processed_on: str = "", **opts: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"timestamp": str(round(NOW - age_s * 1000)), "opts": json.dumps(opts)}
    return {**row, "processedOn": processed_on} if processed_on else row


@pytest.mark.parametrize(
    ("rows", "age_s"),
    [
        ([row(5.0), row(3.0)], 5.0),
        ([row(3.0), row(5.0)], 5.0),
        ([row(50.0, delay=20_000)], 30.0),  # due 20 s after it was added
        ([row(50.0, delay=0.5)], 49.999),
        ([row(-7.0)], 0.0),  # a producer's clock that is fast
        ([row(50.0, processed_on="1"), row(5.0)], 5.0),  # a retry: nothing tells since when it waits again
        ([row(50.0, processed_on="1")], None),
        ([{}], None),  # removed in between
        ([{"timestamp": "yesterday"}], None),
        ([{"timestamp": "nan"}], None),
        ([{"timestamp": "inf"}], None),
        ([{"timestamp": "1e999"}], None),
        ([{"timestamp": str(NOW // 1000)}], None),  # seconds
        ([{"timestamp": str(EARLIEST_MS - 1)}], None),
        ([{"timestamp": str(NOW - 1000), "opts": "[" * 100_000}], 1.0),
        ([{"timestamp": str(NOW - 1000), "opts": "[" * 10_000}], 1.0),
        ([{"timestamp": str(NOW - 1000), "opts": "none"}], 1.0),
        ([{"timestamp": str(NOW - 1000), "opts": '{"delay": "1 day"}'}], 1.0),
        ([{"timestamp": str(NOW - 1000), "opts": '{"delay": null}'}], 1.0),
        ([{"timestamp": str(NOW - 1000), "opts": '{"delay": -5}'}], 1.0),
        ([{"timestamp": str(NOW - 1000), "opts": '{"delay": 1e308}'}], 0.0),
        ([{"timestamp": str(NOW - 1000), "opts": "[1]"}], 1.0),
        ([row(2.0), None], 2.0),  # no hash
    ],
)
async def test_age_is_that_of_a_job_that_waits_for_its_first_start(
    redis: Redis, prefix: str, read: Read, rows: list[dict[str, Any] | None], age_s: float | None
) -> None:
    fields: Any
    for number, fields in enumerate(rows):
        await redis.rpush(f"{prefix}:q:wait", number)
        if fields is None:
            await redis.set(f"{prefix}:q:{number}", "text")
        elif fields:
            await redis.hset(f"{prefix}:q:{number}", mapping=fields)
    assert (await read(clock=lambda: NOW)).oldest_waiting_s == age_s


async def test_starving_job_of_a_low_priority_is_seen(queue: Any, read: Read) -> None:
    now = round(time.time() * 1000)
    for number in range(20):
        await queue.add("n", {}, {"timestamp": now - number, "priority": 1})
    await queue.add("n", {}, {"timestamp": now - 90_000, "priority": 9})
    stats = await read(clock=lambda: now)
    assert (stats.oldest_waiting_s, stats.prioritized) == (90, 21)


async def test_pause_and_limit_of_the_queue_are_told(queue: Any, read: Read, make_worker: MakeWorker) -> None:
    made = await make_worker()
    await made.worker.rate_limit(30_000)
    assert 0 < (await read()).limited_s <= 30
    assert not (await read()).is_paused
    await queue.pause()
    assert (await read()).is_paused


async def test_rate_of_the_settings_is_told_once_it_is_used_up(queue: Any, read: Read, make_worker: MakeWorker) -> None:
    await queue.addBulk([{"name": "n", "data": {}} for _ in range(3)])
    made = await make_worker(limiter={"max": 2, "duration": 60_000})
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert 0 < (await read(rates={"q": 2})).limited_s <= 60
    assert (await read(rates={"q": 2})).backlog == 1


async def test_keys_and_rows_of_others_are_passed_over(queue: Any, redis: Redis, prefix: str, read: Read) -> None:
    await queue.add("n", {}, {"priority": 1})
    await redis.set(f"{prefix}:q:wait", "not a list")
    await redis.rpush(f"{prefix}:q:completed", "not", "a", "set")
    await redis.zadd(f"{prefix}:q:prioritized", {"no-such-job": 1, "text": 2, "garbled": 3, "\x00ÿ": 4})
    await redis.set(f"{prefix}:q:text", "not a job")
    await redis.hset(f"{prefix}:q:garbled", mapping={"timestamp": b"\xff\xfe", "opts": b"\xff"})
    stats = await read()
    assert (stats.waiting, stats.completed, stats.prioritized) == (0, 0, 5)
    assert {problem.partition(":")[0] for problem in stats.problems} == {"wait", "completed"}


async def test_any_number_of_queues_costs_one_round_trip_and_no_search(make_server: Callable[..., Server]) -> None:
    server = make_server()
    names = [f"q{number}" for number in range(30)]
    async with RoundTrips(server.port) as trips:
        client = Endpoint(url=trips.url, prefix="{tag}").commands()
        for name in names:
            await Queue(name, {"connection": client, "prefix": "{tag}"}).add("n", {})
        reader = StatsReader(client, "{tag}")
        await client.config_resetstat()
        for workers in (False, True):
            before = trips.count
            found = await reader.read(names, workers=workers)
            assert trips.count == before + 1
            assert list(found) == names
            assert all(stats.waiting == 1 and stats.oldest_waiting_s is not None for stats in found.values())
        run = {name.removeprefix("cmdstat_") for name in await client.info("commandstats")}
        assert "evalsha" in run and not run & {"keys", "scan", "multi", "eval"}
        await client.aclose()


async def test_marker_of_an_old_bullmq_is_no_job(queue: Any, redis: Redis, prefix: str, read: Read) -> None:
    await queue.add("n", {})
    await redis.rpush(f"{prefix}:q:wait", "0:1700000000000")
    stats = await read()
    assert stats.waiting == 1 and stats.oldest_waiting_s is not None


async def test_server_that_forgets_its_scripts_is_asked_on(
    queue: Any, redis: Redis, prefix: str, client: Redis
) -> None:
    await queue.add("n", {})
    reader = StatsReader(client, prefix)
    for _ in range(2):
        stats = (await reader.read(["q"]))["q"]
        assert stats.oldest_waiting_s is not None and not stats.problems
        await redis.script_flush()


async def test_workers_of_the_fleet_and_of_the_stock_package_are_told_apart(
    make_worker: MakeWorker, redis_url: str, prefix: str, client: Redis
) -> None:
    await make_worker(name="ours")

    stock = Redis.from_url(redis_url, client_name=f"{prefix}:q:w:stock")  # as bullmq.Worker calls its connections
    await stock.ping()

    async def seen() -> tuple[WorkerSeen, ...]:
        return (await StatsReader(client, prefix).read(["q"], workers=True))["q"].workers or ()

    async def both() -> Any:
        return len(await seen()) == 2

    await wait_until(both)
    assert [(worker.side, worker.name) for worker in await seen()] == [("fleet", "ours"), ("python", "stock")]
    await stock.aclose()


async def test_redis_that_is_away_is_an_error(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = Endpoint(url=server.url).commands()
    reader = StatsReader(client, "bull")
    assert (await reader.read(["q"]))["q"].backlog == 0
    server.stop()
    with pytest.raises((RedisConnectionError, OSError)):
        await reader.read(["q"])
    server.start()
    assert (await reader.read(["q"]))["q"].backlog == 0
    await client.aclose()

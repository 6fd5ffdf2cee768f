"""Queues are found, and their status, throughput and priorities told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis
from redis.driver_info import DriverInfo

from tests.conftest import MakeWorker, Server, wait_until
from tests.round_trips import RoundTrips
from tests.seeded import seed
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, Failed
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, JobFailed
from workers.broker.hold import Hold
from workers.broker.permissions import HELPFUL, rule
from workers.broker.queue_scan import scan
from workers.queue_service.errors import InvalidRequestError, UnknownQueueError
from workers.queue_service.looking import Looking
from workers.queue_service.queue_names import FRESH_S
from workers.queue_service.reach import Reach

NOW = 1_800_000_000_000
IOREDIS = DriverInfo(name="ioredis", lib_version="5.6.1")
MakeLooking = Callable[..., Looking]


@pytest.fixture
async def make_looking(endpoint: Endpoint) -> AsyncIterator[MakeLooking]:
    made: list[tuple[Looking, Redis]] = []
    default = endpoint

    def make(where: Endpoint | None = None, *, queues: tuple[str, ...] = ("q",), **options: Any) -> Looking:
        client = (where or default).commands()
        made.append((Looking(where or default, client, queues, timeout_s=20, **options), client))
        return made[-1][0]

    yield make
    for looking, client in made:
        await looking.close()
        await client.aclose()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def test_queues_are_the_configured_ones_and_those_in_redis(
    make_looking: MakeLooking, redis: Redis, prefix: str
) -> None:
    looking = make_looking(queues=("z", "a", "z"))
    for name in ("b", "theirs", "é"):
        await seed(redis, prefix, name, "waiting", 1, now_ms=NOW)
    await redis.hset(f"{prefix}:b:job:meta", "name", "a job's row")  # no queue: its name would have a colon
    await redis.set(f"{prefix}:other", "x")
    ticks = [0.0]
    looking.names._clock = lambda: ticks[0]
    assert looking.names.seen == ("z", "a")
    assert await looking.queues() == ["z", "a", "b", "theirs", "é"]
    await seed(redis, prefix, "later", "waiting", 1, now_ms=NOW)
    await redis.delete(f"{prefix}:theirs:meta")
    assert await looking.queues() == ["z", "a", "b", "theirs", "é"]
    ticks[0] += FRESH_S
    assert await looking.queues() == ["z", "a", "b", "later", "é"]
    assert list(await looking.get_queue_status()) == ["z", "a", "b", "later", "é"]


@pytest.mark.parametrize("special", ["a[b]c", "a*c", "a?c", "a\\c", "{a}"])
async def test_prefix_is_taken_literally(
    make_looking: MakeLooking, make_server: Callable[..., Server], special: str
) -> None:
    server = make_server()
    client: Redis = Redis.from_url(server.url, decode_responses=True, protocol=2)
    await client.hset(f"{special}:mine:meta", "a", "b")
    for other in ("abc", "axc", "a", "ac"):
        await client.hset(f"{other}:not-mine:meta", "a", "b")
    looking = make_looking(Endpoint(url=server.url, prefix=special), queues=())
    assert await looking.queues() == ["mine"]
    await client.aclose()


async def test_search_among_very_many_keys_ends_in_time_and_keeps_what_it_knew(
    make_looking: MakeLooking, redis: Redis, prefix: str
) -> None:
    for name in ("a", "b", "c"):
        await seed(redis, prefix, name, "waiting", 8000, now_ms=NOW)
    found = await scan(redis, prefix, within_s=0)
    assert not found.is_whole and set(found.queues) <= {"a", "b", "c"}
    looking = make_looking(queues=())
    assert await looking.queues() == ["a", "b", "c"]
    looking.names._looked_at = float("-inf")
    looking.names._reach = _Unhurried(0)  # the next look ends after its first step
    assert await looking.queues() == ["a", "b", "c"]


class _Unhurried(Reach):
    async def __call__(self, look: Any, queue: str | None = None) -> Any:
        return await look


async def test_status_shows_both_sides_and_costs_one_round_trip(
    make_looking: MakeLooking, make_worker: MakeWorker, valkey: Server, redis_url: str, prefix: str, queue: Any
) -> None:
    await make_worker(name="ours")
    node = Redis.from_url(redis_url, client_name=f"{prefix}:cQ==:w:theirs", driver_info=IOREDIS)
    await node.ping()
    await queue.pause()
    await queue.add("n", {}, {"delay": 60_000})
    async with RoundTrips(valkey.port) as trips:
        looking = make_looking(Endpoint(url=trips.url, prefix=prefix), queues=("q", *map(str, range(11))))
        await looking.queues()
        before = trips.count
        found = await looking.get_queue_status()
        assert trips.count == before + 1 and len(found) == 12
    status = found["q"]
    assert status.sides == {"fleet": 1, "node": 1}
    (competitor,) = status.competitors
    assert (competitor.name, competitor.library) == ("theirs", "ioredis 5.6.1")
    told = status.json()
    assert (told["delayed"], told["isPaused"], told["competitors"], told["configured"]) == (1, True, 1, True)
    assert {worker["side"] for worker in told["workers"]} == {"fleet", "node"}
    json.dumps(told, allow_nan=False)
    await node.aclose()


async def test_worker_that_waits_is_idle(make_looking: MakeLooking, make_worker: MakeWorker, queue: Any) -> None:
    release = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        await release.wait()
        return Completed(result=None)

    made = await make_worker(work, name="ours", slots=1)
    looking = make_looking()

    async def idle() -> Any:
        return (await looking.metrics("q")).idle_workers

    await wait_until(idle)
    await queue.add("n", {})

    async def busy() -> Any:
        return await idle() == 0

    await wait_until(busy)
    release.set()
    await wait_until(lambda: made.of(JobCompleted))


async def test_queue_of_others_has_no_competitors_and_one_without_a_name_is_refused(
    make_looking: MakeLooking, redis_url: str, prefix: str
) -> None:
    looking = make_looking()
    stock = Redis.from_url(redis_url, client_name=f"{prefix}:theirs:w:stock")
    await stock.ping()
    status = (await looking.get_queue_status(["theirs"]))["theirs"]
    assert status.sides == {"python": 1} and status.competitors == () and not status.is_configured
    with pytest.raises(InvalidRequestError):
        await looking.get_queue_status(["a:b"])
    assert await looking.get_queue_status([]) == {}
    await stock.aclose()


async def test_throughput_is_what_bullmq_counts(
    make_looking: MakeLooking, make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return (
            Failed(reason=f"HTTP {job.data['code']} for 123456{job.id}", error="E") if job.data else Completed(result=0)
        )

    for number in range(20):
        await queue.add("n", {"code": 503 if number < 8 else 404} if number < 10 else {})
    made = await make_worker(work, name="ours")
    await wait_until(lambda: len(made.of(JobCompleted)) == 10 and len(made.of(JobFailed)) == 10)
    looking = make_looking()
    found = await looking.throughput("q", minutes=5)
    assert found.totals == {"completed": 10, "failed": 10}
    assert sum(found.per_minute["completed"]) == 10 and len(found.per_minute["failed"]) == 5
    assert found.last[60] == {"completed": 10, "failed": 10} == found.last[5]
    metrics = await looking.metrics("q")
    assert metrics.error_rate == 0.5
    assert [(each.error, each.count) for each in metrics.top_errors] == [("HTTP 503 for …", 8), ("HTTP 404 for …", 2)]
    assert metrics.processing.count == 20 == metrics.waiting.count
    assert metrics.processing.p50 is not None and 0 <= metrics.processing.p50 < 30
    assert metrics.workers == 1
    for minutes in (0, 20_161, "5", True):
        with pytest.raises(InvalidRequestError):
            await looking.throughput("q", minutes=minutes)  # type: ignore[arg-type]
    with pytest.raises(UnknownQueueError):
        await looking.throughput("nowhere")


async def test_jobs_that_workers_without_metrics_have_done_are_counted_while_they_are_kept(
    make_looking: MakeLooking, redis: Redis, prefix: str
) -> None:
    now = round(time.time() * 1000)
    await seed(redis, prefix, "q", "completed", 300_000 // 1000, now_ms=now - 300)
    found = await make_looking(clock=lambda: now).throughput("q")
    assert found.totals == {"completed": 0, "failed": 0} and found.last[1] == {"completed": 300, "failed": 0}


async def test_priorities_are_counted(make_looking: MakeLooking, queue: Any) -> None:
    looking = make_looking()
    assert await looking.priorities("q") == {}
    for priority in (0, 0, 7, 7, 7, 1, 2**21, 50):
        await queue.add("n", {}, {"priority": priority} if priority else {})
    found = await looking.priorities("q")
    assert list(found.items()) == [(0, 2), (1, 1), (7, 3), (50, 1), (2**21, 1)]
    asked = await queue.getCountsPerPriority([0, 1, 7, 50, 2**21])
    assert {int(priority): count for priority, count in asked.items()} == found


async def test_user_without_the_permissions_to_look_sees_what_is_left(
    make_looking: MakeLooking, make_server: Callable[..., Server], make_worker: MakeWorker
) -> None:
    server = make_server()
    admin: Any = Redis.from_url(server.url, decode_responses=True, protocol=2)
    words = ["ACL", "SETUSER", "fleet", "reset", "on", ">secret", *rule("bull").split()]
    await admin.execute_command(*words, *(f"-{command}" for command in HELPFUL))
    await seed(admin, "bull", "q", "waiting", 3, now_ms=NOW)
    where = Endpoint(url=server.url, username="fleet", password="secret")
    looking = make_looking(where)
    assert await looking.queues() == ["q"]
    status = (await looking.get_queue_status())["q"]
    assert status.stats.waiting == 3 and status.json()["workers"] is None
    assert {problem.partition(":")[0] for problem in status.stats.problems} == {"due", "workers"}
    assert (await looking.get_task_statuses(["1"]))[0].status == "Waiting"
    await admin.execute_command("ACL", "SETUSER", "fleet", *rule("bull").split())
    await admin.execute_command("ACL", "LOG", "RESET")
    assert (await looking.get_task_details("1")).job.state == "waiting"
    assert len((await looking.jobs("q")).items) == 3
    assert (await looking.get_queue_status())["q"].stats.problems == ()
    await looking.metrics("q")
    await looking.priorities("q")
    await looking.children("q", "1", "failed")
    await looking.logs("q", "1")
    async with looking.events(["q"], {"q": "1-0"}) as events:
        await events.start()
    assert await admin.execute_command("ACL", "LOG") == []
    await admin.aclose()

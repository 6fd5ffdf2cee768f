"""Pausing and cleaning on a real server; what BullMQ of either layout has left in its lists is kept, and in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted
from workers.broker.queue_acts import QueueActs

HOUR_MS = 3_600_000


@pytest.fixture
async def acts(endpoint: Endpoint) -> AsyncIterator[QueueActs]:
    client = endpoint.commands()
    yield QueueActs(client, endpoint.prefix)
    await client.aclose()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def heard(redis: Redis, prefix: str) -> list[str]:
    stored: Any = await redis.xrange(f"{prefix}:q:events")
    found = [fields for _, fields in stored]
    return [fields["event"] for fields in found if fields["event"] in ("paused", "resumed", "cleaned")]


async def test_paused_queue_starts_nothing_until_it_is_resumed(
    acts: QueueActs, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    assert [await acts.pause("q"), await acts.pause("q")] == [False, True]
    await queue.add("n", {})
    made = await make_worker(drain_delay_s=0.05)
    await wait_until(lambda: "the queue is paused" in made.worker.health().detail)
    assert not made.of(JobActive)
    assert [await acts.resume("q"), await acts.resume("q")] == [False, True]
    await wait_until(lambda: made.of(JobCompleted))
    assert await heard(redis, prefix) == ["paused", "paused", "resumed", "resumed"]


async def test_where_bullmq_5_uses_the_queue_what_waits_stands_where_that_looks_for_it(
    acts: QueueActs, queue: Any, redis: Redis, prefix: str
) -> None:
    ids = [(await queue.add("n", {})).id for _ in range(3)]
    await redis.hset(f"{prefix}:q:meta", "version", "bullmq:5.53.2")
    await redis.lpush(f"{prefix}:q:paused", "old")
    await acts.pause("q")
    assert await redis.lrange(f"{prefix}:q:paused", 0, -1) == [*reversed(ids), "old"]
    assert not await redis.exists(f"{prefix}:q:wait")
    await acts.resume("q")
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [*reversed(ids), "old"]
    assert not await redis.exists(f"{prefix}:q:paused")


async def test_more_jobs_than_one_script_moves_are_moved(acts: QueueActs, redis: Redis, prefix: str) -> None:
    await redis.hset(f"{prefix}:q:meta", mapping={"version": "bullmq:5.53.2"})
    ids = [str(n) for n in range(15_000)]
    await redis.rpush(f"{prefix}:q:wait", *ids)
    await acts.pause("q")
    assert await redis.lrange(f"{prefix}:q:paused", 0, -1) == ids
    await redis.rpush(f"{prefix}:q:wait", "late")
    await acts.resume("q")
    assert await redis.llen(f"{prefix}:q:wait") == 15_001
    assert await heard(redis, prefix) == ["paused", "resumed"], "each is told once"


async def test_bullmq_6_keeps_what_waits_where_it_is(acts: QueueActs, queue: Any, redis: Redis, prefix: str) -> None:
    job = await queue.add("n", {})
    await redis.hset(f"{prefix}:q:meta", "version", "bullmq:6.7.0")
    await acts.pause("q")
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [job.id]


async def test_jobs_are_chosen_by_their_age_wherever_they_stand(
    acts: QueueActs, queue: Any, redis: Redis, prefix: str
) -> None:
    old, new = [await queue.add("n", {}, {"delay": HOUR_MS * n}) for n in (2, 1)]
    odd = await queue.add("n", {}, {"delay": HOUR_MS})
    await redis.hset(f"{prefix}:q:{old.id}", "timestamp", "1500000000000")
    await redis.hset(f"{prefix}:q:{odd.id}", "timestamp", "often")
    chosen = await acts.chosen("q", "delayed", 10, 1_600_000_000_000)
    assert (set(chosen.ids), chosen.more) == ({old.id, odd.id}, False)
    assert (await acts.chosen("q", "delayed", 1, 1_600_000_000_000)).more
    assert new.id not in chosen.ids


async def test_next_jobs_of_schedules_are_counted_apart(acts: QueueActs, queue: Any) -> None:
    await queue.upsertJobScheduler("yearly", {"pattern": "0 3 1 1 *"}, "n", {})
    await queue.add("n", {}, {"delay": HOUR_MS})
    assert await acts.count("q", ["delayed"]) == 2
    assert await acts.scheduled("q", ["delayed", "wait"]) == 1
    assert await acts.scheduled("q", ["wait"]) == 0
    cleaned = await acts.clean("q", "delayed", 100)
    assert len(cleaned) == 1
    assert await acts.count("q", ["delayed"]) == 1

"""A queue that is paused for everyone, seen by several pods: it is resumed once, and only if it is still that pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker import keys
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted
from workers.broker.global_pause import SEEN_MS, STALE_MS, GlobalPauses, SeenPause
from workers.broker.queue_acts import QueueActs


class Pods:
    """Two of them, and an operator."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.now = 1_780_000_000_000
        self.client = endpoint.commands()
        clock = lambda: self.now  # noqa: E731 - short
        self.one = GlobalPauses(self.client, endpoint.prefix, clock=clock)
        self.two = GlobalPauses(self.client, endpoint.prefix, clock=clock)
        self.operator = QueueActs(self.client, endpoint.prefix, clock=clock)


@pytest.fixture
async def pods(endpoint: Endpoint) -> AsyncIterator[Pods]:
    pods = Pods(endpoint)
    yield pods
    await pods.client.aclose()


async def test_all_count_from_when_the_first_saw_it(pods: Pods) -> None:
    began = pods.now
    await pods.operator.pause("q")
    assert await pods.one.look(["q", "r"]) == {"q": SeenPause(began)}
    pods.now += 5_000
    assert await pods.two.look(["q"]) == {"q": SeenPause(began)}


async def test_moment_is_forgotten_with_the_pause_and_without_a_look(pods: Pods, redis: Redis, prefix: str) -> None:
    await pods.operator.pause("q")
    await pods.one.look(["q"])
    left = await redis.pttl(keys.paused_since(prefix, "q"))
    assert 0 < left <= SEEN_MS, "what happens while nobody looks was not seen"
    await pods.operator.resume("q")
    assert await pods.one.look(["q"]) == {}
    assert not await redis.exists(keys.paused_since(prefix, "q"))


async def test_one_of_them_resumes(pods: Pods, redis: Redis, prefix: str) -> None:
    await pods.operator.pause("q")
    seen = (await pods.one.look(["q"]))["q"]
    done = await asyncio.gather(pods.one.resume("q", seen), pods.two.resume("q", seen))
    assert sorted(done) == [False, True]
    assert not await redis.hexists(f"{prefix}:q:meta", "paused")
    events: Any = await redis.xrange(f"{prefix}:q:events")
    told = [fields["event"] for _, fields in events]
    assert told.count("resumed") == 1


async def test_another_pause_than_the_one_that_was_seen_is_left_alone(pods: Pods, redis: Redis, prefix: str) -> None:
    await pods.operator.pause("q")
    seen = (await pods.one.look(["q"]))["q"]
    assert await pods.one.resume("q", seen)
    await pods.operator.pause("q")
    assert not await pods.two.resume("q", seen)
    pods.now += 1
    assert (await pods.two.look(["q"]))["q"].since_ms == pods.now
    assert not await pods.two.resume("q", seen)
    assert await redis.hexists(f"{prefix}:q:meta", "paused")


async def test_operators_own_pause_is_left_alone_until_he_resumes(pods: Pods, redis: Redis, prefix: str) -> None:
    await pods.operator.pause("q", by="ann")
    seen = (await pods.one.look(["q"]))["q"]
    assert seen.by == "ann"
    assert not await pods.one.resume("q", SeenPause(seen.since_ms))
    await pods.operator.resume("q")
    assert not await redis.exists(keys.paused_by(prefix, "q"))


async def test_nodes_resume_takes_the_operators_mark_away_in_time(pods: Pods, redis: Redis, prefix: str) -> None:
    """Else the pause that Node's next shutdown leaves would count as his."""
    await pods.operator.pause("q", by="ann")
    await redis.hdel(f"{prefix}:q:meta", "paused")
    await pods.one.look(["q"])
    assert await redis.exists(keys.paused_by(prefix, "q")), "his pause may be about to be made"
    pods.now += STALE_MS + 1
    await pods.one.look(["q"])
    assert not await redis.exists(keys.paused_by(prefix, "q"))


async def test_jobs_that_bullmq_5_has_put_aside_are_all_back(
    pods: Pods, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    jobs = [f"j{number}" for number in range(7_050)]
    await redis.hset(f"{prefix}:q:meta", mapping={"paused": 1, "version": "bullmq:5.53.2"})
    await redis.lpush(f"{prefix}:q:paused", *jobs)
    await redis.lpush(f"{prefix}:q:wait", "late")
    seen = (await pods.one.look(["q"]))["q"]
    assert await pods.one.resume("q", seen)
    assert await redis.llen(f"{prefix}:q:paused") == 0 and await redis.llen(f"{prefix}:q:wait") == 7_051


async def test_workers_go_on_at_once(pods: Pods, redis: Redis, prefix: str, make_worker: MakeWorker) -> None:
    await pods.operator.pause("q")
    made = await make_worker()
    await redis.hset(f"{prefix}:q:7", mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": 1})
    await redis.lpush(f"{prefix}:q:wait", "7")
    seen = (await pods.one.look(["q"]))["q"]
    await pods.one.resume("q", seen)
    await wait_until(lambda: made.of(JobCompleted))


async def test_own_stop_pauses_nobody(make_worker: MakeWorker, redis: Redis, prefix: str) -> None:
    """Node's shutdown does."""
    made = await make_worker()
    await made.worker.stop(by=asyncio.get_running_loop().time() + 5)
    assert not await redis.hexists(f"{prefix}:q:meta", "paused")
    events: Any = await redis.xrange(f"{prefix}:q:events")
    told = [fields["event"] for _, fields in events]
    assert "paused" not in told

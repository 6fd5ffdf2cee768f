"""Redis goes away and comes back; replies are lost. Nothing is lost, nothing is said twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import MakeWorker, Server, wait_until
from workers.broker.activation import Activation
from workers.broker.backend import Fetched
from workers.broker.endings import Completed, Ending, Retry
from workers.broker.endpoint import Endpoint
from workers.broker.events import ConnectionChanged, JobActive, JobCompleted, JobRetrying
from workers.broker.hold import Hold
from workers.broker.preflight import ServerRefusedError, examine


async def test_idle_worker_goes_on_after_a_restart(make_worker: MakeWorker, make_server: Callable[..., Server]) -> None:
    server = make_server("--appendonly", "yes")
    made = await make_worker(endpoint=Endpoint(url=server.url), slots=3)
    await wait_until(lambda: made.worker.health().ok)
    server.stop()
    await wait_until(lambda: not made.worker.health().ok)
    assert "Redis does not answer" in made.worker.health().detail
    server.start()
    queue = Queue("q", {"connection": server.url})
    await queue.add("n", {})
    await wait_until(lambda: made.of(JobCompleted))
    assert made.worker.health().ok
    assert [event.up for event in made.of(ConnectionChanged)] == [False, True]
    await queue.close()


async def test_job_that_ends_while_redis_is_away_is_finished_on_its_return(
    make_worker: MakeWorker, make_server: Callable[..., Server]
) -> None:
    server = make_server("--appendonly", "yes", "--appendfsync", "always")
    go = asyncio.Event()
    runs = 0

    async def work(job: Activation, hold: Hold) -> Ending:
        nonlocal runs
        runs += 1
        await go.wait()
        return Completed(result="kept")

    made = await make_worker(work, endpoint=Endpoint(url=server.url), lock_ms=30_000)
    queue = Queue("q", {"connection": server.url})
    await queue.add("n", {}, {"jobId": "one"})
    await wait_until(lambda: runs == 1)
    server.stop()
    go.set()
    await wait_until(lambda: made.of(ConnectionChanged))
    assert not made.of(JobCompleted)  # said only when Redis has it
    server.start()
    await wait_until(lambda: made.of(JobCompleted))
    client = Redis.from_url(server.url, decode_responses=True)
    assert await client.hget("bull:q:one", "returnvalue") == '"kept"'
    assert runs == 1
    await client.aclose()
    await queue.close()


async def test_stop_is_bounded_while_redis_is_away(make_worker: MakeWorker, make_server: Callable[..., Server]) -> None:
    server = make_server()
    began = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        began.set()
        await asyncio.sleep(0.2)
        return Completed(result=None)

    made = await make_worker(work, endpoint=Endpoint(url=server.url))
    queue = Queue("q", {"connection": server.url})
    await queue.add("n", {})
    await began.wait()
    await queue.close()
    server.stop()
    start = time.monotonic()
    await made.worker.stop(by=start + 2)
    assert time.monotonic() - start < 5
    assert not made.worker.drained  # the exit code must say that a job could not be written


@pytest.mark.parametrize("ending", [Completed(result=1), Retry(reason="r", error="E", delay_ms=60_000)])
async def test_lost_reply_of_an_ending_is_settled_not_sent_again(
    make_worker: MakeWorker, redis_url: str, prefix: str, redis: Redis, ending: Ending
) -> None:
    """The script ran, its reply was lost, and the next job came with it: each is reported exactly once."""

    async def work(job: Activation, hold: Hold) -> Ending:
        return ending if job.id == "first" else Completed(result=2)

    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    await queue.addBulk([{"name": "n", "data": {}, "opts": {"jobId": i, "attempts": 3}} for i in ("first", "second")])
    sent = 0

    def lose_first_reply(worker: Any) -> None:
        real = worker.backend.finish

        async def finish(job: Activation, how: Ending, *, fetch_next: bool) -> Fetched:
            nonlocal sent
            fetched: Fetched = await real(job, how, fetch_next=fetch_next)
            if job.id == "first":
                sent += 1
                raise RedisConnectionError("Connection closed by server.")
            return fetched

        worker.backend.finish = finish

    paused = await make_worker(work, drain_delay_s=0.2)
    lose_first_reply(paused.worker)  # before the slot has had a turn
    await wait_until(lambda: len(paused.of(JobCompleted)) + len(paused.of(JobRetrying)) == 2)
    assert sent == 1
    assert sorted(e.job_id for e in paused.of(JobActive)) == ["first", "second"]
    assert await redis.hget(f"{prefix}:q:first", "atm") == "1"
    await queue.close()


async def test_lost_reply_of_a_fetch_finds_the_job_by_its_token(
    make_worker: MakeWorker, redis_url: str, prefix: str, redis: Redis
) -> None:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    job = await queue.add("n", {})
    made = await make_worker()
    real = made.worker.backend.fetch
    lost = 0

    async def fetch(token: str) -> Fetched:
        nonlocal lost
        fetched = await real(token)
        if fetched.activation is not None and not lost:
            lost += 1
            raise RedisConnectionError("Connection reset by peer")
        return fetched

    made.worker.backend.fetch = fetch  # type: ignore[method-assign]
    await wait_until(lambda: made.of(JobCompleted))
    assert lost == 1
    stored = await redis.hgetall(f"{prefix}:q:{job.id}")
    assert (stored["ats"], stored.get("stc")) == ("1", None)  # not left to the stalled check
    await queue.close()


async def test_server_that_may_evict_is_refused(make_server: Callable[..., Server]) -> None:
    server = make_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    client = Endpoint(url=server.url).commands()
    with pytest.raises(ServerRefusedError, match=r"allkeys-lru.*noeviction.*redis\.allow_eviction"):
        await examine(client, allow_eviction=False)
    facts = await examine(client, allow_eviction=True)
    assert facts.eviction == "allkeys-lru"
    await client.aclose()

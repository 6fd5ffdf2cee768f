"""Fail-over by real sentinels: the worker follows to the new primary, and no job that was replicated is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.sentinels import NAME, Sentinels
from workers.broker.activation import Activation
from workers.broker.client import NotSentError
from workers.broker.connection import Node
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint, Reconnect
from workers.broker.events import ConnectionChanged, JobCompleted
from workers.broker.hold import Hold
from workers.broker.sentinel import SentinelLocator

SECRET = "watch/me"
SOON = Reconnect(0.02, 0.2)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Sentinels]:
    """For one test alone."""
    group = Sentinels(tmp_path / "group")
    group.start()
    yield group
    group.stop()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """For tests that leave it as it is; its sentinels want a password."""
    group = Sentinels(tmp_path_factory.mktemp("sentinels"), SECRET)
    group.start()
    yield group
    group.stop()


@pytest.fixture
def watched(group: Sentinels) -> Endpoint:
    return Endpoint(url=group.url, connect_timeout_s=1.0)


@pytest.fixture
async def client(watched: Endpoint) -> AsyncIterator[Redis]:
    """The producer's, which follows too."""
    client = watched.commands()
    yield client
    await client.aclose()


async def port(client: Redis) -> int:
    return int(str((await client.config_get("port"))["port"]))


async def reachable(client: Redis, at: int) -> Any:
    try:
        return await port(client) == at
    except Exception:
        return False


async def test_worker_follows_when_the_primary_is_killed(
    make_worker: MakeWorker, group: Sentinels, watched: Endpoint, client: Redis
) -> None:
    primary, replica = group.servers
    go = asyncio.Event()
    runs: list[str] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        runs.append(job.id)
        if job.id == "running":
            await go.wait()
        return Completed(result=job.id)

    made = await make_worker(work, endpoint=watched, slots=2, lock_ms=10_000, reconnect=SOON)
    queue = Queue("q", {"connection": client})
    await queue.add("n", {}, {"jobId": "running"})
    await queue.add("n", {}, {"jobId": "before"})
    await queue.add("n", {}, {"jobId": "later", "delay": 1_000})
    await wait_until(lambda: "running" in runs and made.of(JobCompleted))
    assert await port(client) == primary.port
    assert await client.wait(1, 5000) == 1  # the replica has all of it

    assert primary.process is not None
    primary.process.kill()
    await wait_until(lambda: any(not event.up for event in made.of(ConnectionChanged)))
    go.set()  # ends while there is no primary

    await wait_until(lambda: reachable(client, replica.port))
    await queue.add("n", {}, {"jobId": "after"})
    done = {"running", "before", "later", "after"}
    await wait_until(lambda: {event.job_id for event in made.of(JobCompleted)} == done)
    assert sorted(runs) == sorted(done)  # once each: its lock was on the new primary, too
    for job_id in done:
        assert await client.hget(f"bull:q:{job_id}", "returnvalue") == f'"{job_id}"'
    await wait_until(lambda: made.worker.health().ok)
    assert await client.keys("bull:q:*:lock") == []


async def test_primary_is_left_at_once_although_it_still_takes_itself_for_one(
    make_worker: MakeWorker, group: Sentinels, watched: Endpoint, client: Redis
) -> None:
    """After a fail-over by command a sentinel turns the old primary into a replica ten seconds later, and what it
    took meanwhile is lost.
    """
    old, new = group.servers
    made = await make_worker(endpoint=watched, reconnect=SOON, drain_delay_s=0.5)
    queue = Queue("q", {"connection": client})
    await queue.add("n", {}, {"jobId": "before"})
    await wait_until(lambda: made.of(JobCompleted))
    async with Redis(port=old.port, decode_responses=True, protocol=2) as admin:
        assert await _ours(admin)

        assert group.watchers[0].ask("SENTINEL FAILOVER", NAME)

        await wait_until(lambda: reachable(client, new.port))
        await queue.addBulk([{"name": "n", "data": {}, "opts": {"jobId": f"after-{n}"}} for n in range(5)])
        await wait_until(lambda: len(made.of(JobCompleted)) == 6)
        await wait_until(lambda: _gone(admin))
        assert (await admin.info("replication"))["role"] == "master"
    assert await client.hget("bull:q:after-4", "returnvalue") is not None
    await wait_until(lambda: made.worker.health().ok)


async def _ours(admin: Redis) -> list[str]:
    names = [str(entry.get("name", "")) for entry in await admin.client_list()]
    return [name for name in names if name.startswith(("fleet:", "bull:"))]


async def _gone(admin: Redis) -> Any:
    return not await _ours(admin)


async def test_sentinels_have_an_account_of_their_own(steady: Sentinels) -> None:
    client = Endpoint(url=steady.url, sentinel_password=SECRET).commands()
    assert await client.ping()
    await client.aclose()
    for wrong, said in ((None, "Authentication required."), ("not-this", "invalid username-password pair")):
        text = await refusal(Endpoint(url=steady.url, sentinel_password=wrong))
        assert text.startswith(f"no sentinel says where {NAME!r} is (redis.url): ")
        assert text.count("refuses user and password") == 3 and said in text and "(redis.sentinel)" in text
        assert "not-this" not in text


async def refusal(where: Endpoint) -> str:
    client = where.commands()
    with pytest.raises(NotSentError) as failure:
        await client.ping()
    await client.aclose()
    return str(failure.value)


async def test_name_that_the_sentinels_do_not_know_is_said(steady: Sentinels) -> None:
    where = Endpoint(url=steady.url.replace(NAME, "mymaster"), sentinel_password=SECRET)
    assert (await refusal(where)).count("knows no primary of that name") == 3


async def test_server_that_is_no_primary_is_not_used(steady: Sentinels) -> None:
    """The sentinels have not noticed yet that the server which they name takes no writes any more."""
    where = Endpoint(url=steady.url, sentinel_password=SECRET)
    replica = steady.servers[1]

    class Mistaken(SentinelLocator):
        async def locate(self) -> Node:
            await super().locate()
            self.address = "127.0.0.1", replica.port
            return self.address

    client = where.commands()
    locator: Any = client.connection_pool.connection_kwargs["locator"]
    locator.__class__ = Mistaken
    with pytest.raises(NotSentError, match=rf"127\.0\.0\.1:{replica.port} is not the primary of 'main' any more"):
        await client.ping()
    locator.__class__ = SentinelLocator
    assert await client.set("x", "1")
    await client.aclose()


async def test_one_sentinel_that_lives_is_enough_and_none_is_said(group: Sentinels, watched: Endpoint) -> None:
    for watcher in group.watchers[:2]:
        watcher.stop()
    client = watched.commands()
    assert await client.ping()
    group.watchers[2].stop()
    assert await client.ping()  # the primary that we know is as good as any
    await client.connection_pool.disconnect()
    with pytest.raises(NotSentError) as failure:
        await client.ping()
    await client.aclose()
    text = str(failure.value)
    assert text.startswith(f"no sentinel says where {NAME!r} is (redis.url): ")
    assert all(f"127.0.0.1:{watcher.port}" in text for watcher in group.watchers)

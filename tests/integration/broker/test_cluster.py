"""A real cluster: a worker needs the one node that owns its prefix's slot, and follows it wherever it goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis
from redis.crc import key_slot

from tests.conftest import Made, MakeWorker, Server, wait_until
from tests.redis_cluster import Cluster
from workers.broker.client import NotSentError
from workers.broker.endpoint import Endpoint, Reconnect
from workers.broker.events import JobCompleted

SOON = Reconnect(0.02, 0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Tests may move slots and roles, and leave every slot served and every node alive."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


def pair(cluster: Cluster) -> tuple[Server, Server]:
    """The primary that has a replica, and the replica."""
    first, last = cluster.servers[0], cluster.servers[3]
    return (first, last) if "role:master" in str(cluster.ask(first, "INFO", "replication")) else (last, first)


def on(cluster: Cluster, owner: Server, *seeds: Server) -> Endpoint:
    """A worker's endpoint whose prefix this node owns, and that knows only the seeds; the others are there for it to
    find."""
    hosts = ",".join(f"127.0.0.1:{seed.port}" for seed in seeds or cluster.servers)
    return Endpoint(url=f"redis+cluster://{hosts}", prefix=cluster.prefix_on(owner), connect_timeout_s=1.0)


class Producer:
    """Adds jobs without a pause, each until it is certain that it was added."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._queue = Queue("q", {"connection": client, "prefix": prefix})
        self.added: list[str] = []
        self.stopped = False

    async def add(self) -> None:
        job_id = f"job-{len(self.added)}"
        while True:
            try:
                await self._queue.add("n", {}, {"jobId": job_id})
            except Exception:  # adding the same id twice adds it once
                await asyncio.sleep(0.02)
            else:
                self.added.append(job_id)
                return

    async def run(self) -> None:
        while not self.stopped:  # by a word: asyncio.wait_for, in the client, may swallow a cancellation before 3.12
            await self.add()
            await asyncio.sleep(0.005)


@asynccontextmanager
async def flowing(endpoint: Endpoint, made: Made) -> AsyncIterator[Producer]:
    """Jobs flow before, during and after the block, and in the end each was completed, and said so once."""
    client = endpoint.commands()
    producer = Producer(client, endpoint.prefix)
    task = asyncio.create_task(producer.run())
    await wait_until(lambda: len(made.of(JobCompleted)) >= 10)
    yield producer
    then = len(producer.added)
    await wait_until(lambda: len(producer.added) >= then + 10)
    producer.stopped = True
    await task
    await wait_until(lambda: {event.job_id for event in made.of(JobCompleted)} >= set(producer.added))
    said = Counter(event.job_id for event in made.of(JobCompleted))
    assert [job_id for job_id, times in said.items() if times > 1] == []
    for job_id in producer.added:
        assert await client.zscore(f"{endpoint.prefix}:q:completed", job_id) is not None
    await wait_until(lambda: made.worker.health().ok)
    await client.aclose()


async def ours(server: Server) -> int:
    """Connections of workers and of their clients at this node."""
    async with Redis(port=server.port, decode_responses=True, protocol=2) as admin:
        names = [str(entry.get("name", "")) for entry in await admin.client_list()]
    return sum(name.startswith(("fleet:", "{")) for name in names)


@pytest.mark.parametrize(("at", "asked"), [(1, 2), (2, 1), (2, 3)])
async def test_worker_finds_the_owner_from_any_seed_and_talks_to_it_alone(
    make_worker: MakeWorker, cluster: Cluster, at: int, asked: int
) -> None:
    owner, seed = cluster.servers[at], cluster.servers[asked]
    endpoint = on(cluster, owner, seed)
    made = await make_worker(endpoint=endpoint)
    async with flowing(endpoint, made):
        assert await ours(owner) >= 2
        assert await ours(seed) == 0
    assert any(str(key).startswith(endpoint.prefix) for key in cluster.ask(owner, "KEYS", "*"))


async def test_slot_that_moves_to_another_node_is_followed_and_nothing_is_lost(
    make_worker: MakeWorker, cluster: Cluster
) -> None:
    """Valkey's own migration: the slot changes its owner in one step."""
    old, new = cluster.servers[1], cluster.servers[2]
    endpoint = on(cluster, old, old)
    slot = str(key_slot(endpoint.prefix.encode()))
    made = await make_worker(endpoint=endpoint, slots=3, reconnect=SOON)
    async with flowing(endpoint, made):
        moved = cluster.ask(old, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.node_id(new))
        assert moved == "OK"
        await wait_until(lambda: cluster.owner(endpoint.prefix) is new)
    await wait_until(_none(ours, old))
    assert cluster.ask(new, "EXISTS", f"{endpoint.prefix}:q:meta") == 1


def _none(count: Callable[[Server], Awaitable[int]], server: Server) -> Callable[[], Awaitable[Any]]:
    async def none() -> Any:
        return await count(server) == 0

    return none


async def test_slot_that_moves_key_by_key_is_followed(make_worker: MakeWorker, cluster: Cluster) -> None:
    """The way of other servers: while keys are on their way the nodes answer ASK and TRYAGAIN, later MOVED."""
    old, new = cluster.servers[2], cluster.servers[1]
    endpoint = on(cluster, old, old)
    slot = str(key_slot(endpoint.prefix.encode()))
    made = await make_worker(endpoint=endpoint, reconnect=SOON)
    client = endpoint.commands()
    producer = Producer(client, endpoint.prefix)
    await producer.add()
    await wait_until(lambda: made.of(JobCompleted))

    cluster.ask(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(old))
    cluster.ask(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(new))
    adding = asyncio.create_task(producer.add())
    while keys := cluster.ask(old, "CLUSTER", "GETKEYSINSLOT", slot, "100"):
        cluster.ask(old, "MIGRATE", "127.0.0.1", str(new.port), "", "0", "1000", "KEYS", *keys)
        await asyncio.sleep(0.05)
    for node in (new, old, cluster.servers[0], cluster.servers[3]):
        cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(new))
    await adding

    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert await client.zcard(f"{endpoint.prefix}:q:completed") == 2
    await wait_until(lambda: made.worker.health().ok)
    await client.aclose()


async def test_fail_over_by_command_loses_nothing(make_worker: MakeWorker, cluster: Cluster) -> None:
    primary, replica = pair(cluster)
    endpoint = on(cluster, primary)
    made = await make_worker(endpoint=endpoint, slots=3, reconnect=SOON)
    async with flowing(endpoint, made):
        await wait_until(lambda: cluster.ask(replica, "CLUSTER", "FAILOVER"))
        await wait_until(lambda: cluster.owner(endpoint.prefix) is replica)
    await wait_until(_none(ours, primary))
    cluster.in_step(primary)


async def test_owner_that_is_killed_is_succeeded_by_its_replica(make_worker: MakeWorker, cluster: Cluster) -> None:
    primary, _ = pair(cluster)
    endpoint = on(cluster, primary, primary)  # the only seed dies; the others are known by then
    made = await make_worker(endpoint=endpoint, slots=3, reconnect=SOON)
    client = endpoint.commands()
    producer = Producer(client, endpoint.prefix)
    for _ in range(10):
        await producer.add()
    await wait_until(lambda: len(made.of(JobCompleted)) == 10)
    assert await client.wait(1, 5000) == 1

    assert primary.process is not None
    primary.process.kill()
    for _ in range(10):
        await producer.add()

    await wait_until(lambda: {event.job_id for event in made.of(JobCompleted)} >= set(producer.added))
    assert await client.zcard(f"{endpoint.prefix}:q:completed") == 20
    await wait_until(lambda: made.worker.health().ok)
    await client.aclose()
    primary.stop()
    primary.start()
    cluster.in_step(primary)


async def refusal(endpoint: Endpoint) -> str:
    client = endpoint.commands()
    with pytest.raises(NotSentError) as failure:
        await client.ping()
    await client.aclose()
    return str(failure.value)


async def test_server_that_is_no_cluster_and_nodes_that_are_not_there_are_said(valkey: Server) -> None:
    text = await refusal(Endpoint(url=f"redis+cluster://127.0.0.1:1,127.0.0.1:{valkey.port}", prefix="{bull}"))
    assert text.startswith("no node of the cluster helps (redis.url): 127.0.0.1:1: ")
    assert text.endswith(f"127.0.0.1:{valkey.port}: it is no cluster; write redis:// or rediss://")


async def test_cluster_that_is_taken_for_a_server_is_said(cluster: Cluster) -> None:
    owner, other = cluster.servers[1:3]
    client = Endpoint(url=other.url).commands()
    with pytest.raises(Exception, match=r"\d+ 127\.0\.0\.1:\d+"):
        await client.set(f"{cluster.prefix_on(owner)}:x", "1")
    await client.aclose()

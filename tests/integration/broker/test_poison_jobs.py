"""Jobs that kill their processes: each death counts once, the last one ends the job, and the innocent are spared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from bullmq import Job, Queue
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import Made, MakeWorker, Server, wait_until
from tests.redis_cluster import Cluster
from workers.broker import keys
from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.deaths import KEPT_MS, Bounds, Counted, Deaths
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, JobFailed
from workers.broker.give_back import APART_MS, NAMED, GiveBack
from workers.broker.hold import Hold
from workers.broker.lease_table import Lease
from workers.broker.permissions import rule
from workers.broker.reconnect import Reconnect
from workers.broker.settings import WorkerSettings

SOON = Reconnect(0.01, 0.05)


class Rig:
    """A queue, processes that take its jobs and die, and the supervisor's hand that gives them back."""

    def __init__(self, endpoint: Endpoint, deaths: int = 3) -> None:
        self.endpoint = endpoint
        self.client = endpoint.commands()
        self.queue = Queue("q", {"connection": self.client, "prefix": endpoint.prefix})
        self.poison: list[tuple[str, str]] = []
        bounds = {"q": Bounds(deaths=deaths)}
        self.back = GiveBack(self.client, endpoint.prefix, bounds, lambda *found: self.poison.append(found), SOON)
        settings = WorkerSettings(name="w", lock_ms=60_000)
        self._backend = FleetBackend("q", self.client, self.client, endpoint.prefix, settings)
        self._tokens = 0

    async def add(self, job_id: str = "j", **opts: Any) -> str:
        job = await self.queue.add("n", {}, {"jobId": job_id, **opts})
        return str(job.id)

    async def take(self) -> Lease:
        """As a process that has one slot and never took a job before."""
        self._tokens += 1
        job = (await self._backend.fetch(f"process-{self._tokens}:1")).activation
        assert isinstance(job, Activation)
        return Lease("q", job.id, job.token, 60_000, fence=job.fence)

    async def die(self, *leases: Lease, notice: str | None = "SIGKILL") -> None:
        await self.back.all(leases, notice)

    async def row(self, job_id: str = "j") -> dict[str, str]:
        row: Any = await self.client.hgetall(f"{self.endpoint.prefix}:q:{job_id}")
        return dict(row)

    async def state(self, job_id: str = "j") -> str:
        return str(await self.queue.getJobState(job_id))

    async def count(self, job_id: str = "j") -> dict[str, str]:
        found: Any = await self.client.hgetall(keys.deaths(self.endpoint.prefix, "q", job_id))
        return dict(found)

    async def events(self, name: str) -> list[str]:
        entries: Any = await self.client.xrange(f"{self.endpoint.prefix}:q:events")
        return [fields["jobId"] for _, fields in entries if fields["event"] == name]


MakeRig = Callable[..., Rig]


@pytest.fixture
async def make_rig(endpoint: Endpoint) -> AsyncIterator[MakeRig]:
    made: list[Rig] = []

    def make(where: Endpoint | None = None, deaths: int = 3) -> Rig:
        made.append(Rig(where or endpoint, deaths))
        return made[-1]

    yield make
    for rig in made:
        await rig.client.aclose()


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    return make_rig()


async def ended(made: Made) -> Sequence[JobCompleted | JobFailed]:
    return await wait_until(lambda: [*made.of(JobCompleted), *made.of(JobFailed)])


# ------------------------------------------------------------------------ counting


async def test_job_fails_with_the_death_that_is_one_too_many(rig: Rig, make_worker: MakeWorker) -> None:
    await rig.add()
    for number, notice in enumerate(["SIGKILL", "SIGSEGV"], 1):
        await rig.die(await rig.take(), notice=notice)
        assert (await rig.count())["count"] == str(number)
        assert await rig.state() == "waiting"
        assert "defa" not in await rig.row()
    await rig.die(await rig.take(), notice="SIGKILL after 75 s of silence")
    assert rig.poison == [("q", "j")]
    made = await make_worker()
    (failed,) = await ended(made)
    row = await rig.row()
    reason = "poison: its process died 3 times while it ran (last: SIGKILL after 75 s of silence)"
    assert isinstance(failed, JobFailed) and failed.reason == reason
    assert (row["failedReason"], row.get("stc"), row["ats"], row["atm"]) == (reason, None, "4", "1")
    assert await rig.events("stalled") == ["j", "j", "j"]


async def test_job_that_somebody_retries_may_die_as_often_again(rig: Rig, make_worker: MakeWorker) -> None:
    await rig.add()
    for _ in range(3):
        await rig.die(await rig.take())
    made = await make_worker()
    await ended(made)
    await made.worker.stop(by=0)
    job = await Job.fromId(rig.queue, "j")
    await job.retry()
    for _ in range(2):
        await rig.die(await rig.take())
    assert await rig.state() == "waiting"
    assert "defa" not in await rig.row()
    assert len(rig.poison) == 1
    again = await make_worker()
    (completed,) = await ended(again)
    assert isinstance(completed, JobCompleted)


async def test_same_death_counts_once_however_often_it_is_told(rig: Rig) -> None:
    """The reply was lost, or the supervisor tries again."""
    await rig.add()
    lease = await rig.take()
    deaths = Deaths(rig.client, rig.endpoint.prefix)
    counted = [await deaths.count(lease, "SIGKILL", Bounds(deaths=3)) for _ in range(3)]
    assert counted == [Counted(held=True, deaths=1)] * 3
    assert await rig.events("stalled") == ["j"]
    await rig.die(lease)
    lease = await rig.take()
    assert (await deaths.count(lease, "SIGKILL", Bounds(deaths=2))).poison
    assert (await deaths.count(lease, "SIGKILL", Bounds(deaths=2))).poison
    await rig.die(lease)


async def test_death_is_not_counted_for_a_job_that_is_not_the_dead_ones_any_more(
    rig: Rig, redis: Redis, prefix: str
) -> None:
    await rig.add()
    lease = await rig.take()
    await redis.set(f"{prefix}:q:j:lock", "someone-else")
    await rig.die(lease)
    assert await rig.count() == {}
    assert await rig.state() == "active"
    await redis.delete(f"{prefix}:q:j:lock")
    await redis.hincrby(f"{prefix}:q:j", "ats", 1)  # its lock has expired, and somebody else took it since
    for notice in ("SIGKILL", None):
        await rig.die(lease, notice=notice)
        assert await rig.count() == {}
        assert await rig.state() == "active"
        assert not await redis.exists(f"{prefix}:q:j:lock")


@pytest.mark.parametrize(("notice", "count"), [("SIGKILL after 96 s of silence", "1"), (None, None)])
async def test_job_whose_lock_has_expired_and_that_nobody_took_is_still_the_dead_ones(
    rig: Rig, redis: Redis, prefix: str, notice: str | None, count: str | None
) -> None:
    await rig.add()
    lease = await rig.take()
    await redis.delete(f"{prefix}:q:j:lock")
    await rig.die(lease, notice=notice)
    assert (await rig.count()).get("count") == count
    assert await rig.state() == "waiting"
    assert not await redis.exists(f"{prefix}:q:j:lock")
    await rig.die(lease, notice=notice)  # told again, it waits already
    assert (await rig.count()).get("count") == count
    assert await rig.state() == "waiting"


async def test_job_that_was_removed_is_left_alone(rig: Rig, redis: Redis, prefix: str) -> None:
    await rig.add()
    lease = await rig.take()
    await redis.delete(f"{prefix}:q:j")
    await rig.die(lease)
    assert await redis.exists(f"{prefix}:q:j") == 0
    assert await rig.count() == {}
    await redis.delete(f"{prefix}:q:j:lock")


async def test_what_is_handed_back_is_not_counted(rig: Rig) -> None:
    await rig.add()
    await rig.die(await rig.take(), notice=None)
    assert await rig.count() == {}
    assert await rig.state() == "waiting"
    assert await rig.events("stalled") == []


async def test_stalls_are_not_counted(rig: Rig, make_worker: MakeWorker, redis: Redis, prefix: str) -> None:
    """A worker whose supervisor died too: BullMQ finds the job, and that is BullMQ's to count."""
    await rig.add()
    await rig.take()
    await redis.delete(f"{prefix}:q:j:lock")
    made = await make_worker(stalled_interval_ms=50)
    await ended(made)
    assert (await rig.row())["stc"] == "1"
    assert await rig.count() == {}


async def test_count_is_of_the_job_and_not_of_its_id(rig: Rig) -> None:
    await rig.add()
    for _ in range(2):
        await rig.die(await rig.take())
    await rig.queue.remove("j")
    await asyncio.sleep(0.002)  # a job of another millisecond
    await rig.add()
    await rig.die(await rig.take())
    assert (await rig.count())["count"] == "1"
    assert await rig.state() == "waiting"


async def test_count_expires(rig: Rig) -> None:
    await rig.add()
    await rig.die(await rig.take())
    left = await rig.client.pttl(keys.deaths(rig.endpoint.prefix, "q", "j"))
    assert 0 < left <= KEPT_MS == 7 * 24 * 3600 * 1000


async def test_count_that_is_none_of_ours_is_replaced(rig: Rig) -> None:
    await rig.add()
    timestamp = (await rig.row())["timestamp"]
    key = keys.deaths(rig.endpoint.prefix, "q", "j")
    await rig.client.hset(key, mapping={"job": timestamp, "count": "many", "token": "x"})
    await rig.die(await rig.take())
    assert (await rig.count())["count"] == "1"


async def test_priority_is_kept_where_a_job_is_given_back(rig: Rig) -> None:
    await rig.add("low", priority=9)
    lease = await rig.take()
    await rig.add("high", priority=1)
    await rig.die(lease)
    assert (await rig.take()).job_id == "high"
    await rig.die(Lease("q", "high", "process-2:1", 60_000), notice=None)


async def test_death_of_a_scheduled_job_makes_no_second_successor(
    rig: Rig, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    """Its first start has made the successor; nothing in its row says that there was one."""
    release = asyncio.Event()

    async def hang(job: Activation, hold: Hold) -> Ending:
        await release.wait()
        return Completed(result=None)

    await rig.queue.upsertJobScheduler("tick", {"every": 3_600_000}, "tick", {}, {})
    await make_worker(hang, slots=1)
    job_id: str = await wait_until(lambda: first_active(redis, prefix))
    await wait_until(lambda: rig.queue.getDelayedCount())
    token = await redis.get(f"{prefix}:q:{job_id}:lock")
    await rig.die(Lease("q", job_id, str(token), 60_000))
    survivor = await make_worker()
    await ended(survivor)
    release.set()
    assert await rig.queue.getDelayedCount() == 1
    await rig.queue.removeJobScheduler("tick")


async def first_active(redis: Redis, prefix: str) -> str:
    found: Any = await redis.lrange(f"{prefix}:q:active", 0, 0)
    return str(found[0]) if found else ""


# ----------------------------------------------------------------- who else was there


async def test_innocent_job_beside_a_poison_one_is_spared(make_rig: MakeRig) -> None:
    """Both were in two deaths; the third would end both, if they started together again."""
    rig = make_rig(deaths=3)
    ids = [await rig.add(job_id) for job_id in ("a", "b", "c")]
    for _ in range(2):
        await rig.die(*[await rig.take() for _ in ids])
    states = {job_id: await rig.state(job_id) for job_id in ids}
    assert sorted(states.values()) == ["delayed", "delayed", "waiting"]
    rows = [await rig.row(job_id) for job_id in ids]
    assert sorted(int(row["delay"]) for row in rows) == [0, APART_MS, 2 * APART_MS]
    first = await rig.take()
    assert states[first.job_id] == "waiting"
    await rig.die(first)
    assert rig.poison == [("q", first.job_id)]
    for job_id in ids:
        row = await rig.row(job_id)
        assert row.get("atm", "0") == "0", "what it waits for is not its attempt"
        assert ("defa" in row) == (job_id == first.job_id)


async def test_job_that_was_alone_is_not_put_off(rig: Rig) -> None:
    await rig.add("suspect")
    await rig.die(await rig.take())
    await rig.add("fresh")
    leases = [await rig.take(), await rig.take()]
    await rig.die(*leases)
    assert [await rig.state(job_id) for job_id in ("suspect", "fresh")] == ["waiting", "waiting"]


async def test_many_jobs_of_one_process_are_all_given_back(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    ids = [await rig.add(f"job-{number}") for number in range(200)]
    await rig.die(*[await rig.take() for _ in ids])
    assert await rig.queue.getWaitingCount() == 200
    assert await rig.client.llen(f"{rig.endpoint.prefix}:q:active") == 0
    assert len(caplog.messages) == NAMED + 1
    assert caplog.messages[-1] == f"and {200 - NAMED} more jobs of that process"


# ----------------------------------------------------------------- a server that is odd


async def test_outage_meanwhile_loses_and_doubles_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command fails first, before or after it was done; the next try decides by what Redis has."""
    real = Redis.evalsha
    calls = 0

    async def flaky(client: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 4 == 1:
            raise RedisConnectionError("gone")
        answer = await real(client, *args)
        if calls % 4 == 3:
            raise RedisConnectionError("its reply was lost")
        return answer

    await rig.add("a")
    await rig.add("b")
    leases = [await rig.take(), await rig.take()]
    monkeypatch.setattr(Redis, "evalsha", flaky)
    await rig.die(*leases)
    monkeypatch.undo()
    assert calls > 4
    assert await rig.queue.getWaitingCount() == 2
    assert [(await rig.count(job_id))["count"] for job_id in ("a", "b")] == ["1", "1"]
    assert sorted(await rig.events("stalled")) == ["a", "b"]


async def test_user_without_our_own_keys_counts_deaths_as_stalls(
    make_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    async with Redis(port=server.port, decode_responses=True, protocol=2) as admin:
        words = [word for word in rule("bull").split() if not word.startswith("~fleet:")]
        await admin.execute_command("ACL", "SETUSER", "fleet", "reset", "on", ">s3cret", *words)  # type: ignore[no-untyped-call]
    rig = Rig(Endpoint(url=f"redis://fleet:s3cret@127.0.0.1:{server.port}/0"))
    async with Redis(port=server.port, decode_responses=True, protocol=2) as admin:
        producer = Queue("q", {"connection": admin})
        await producer.add("n", {}, {"jobId": "j"})
        for _ in range(2):
            await rig.die(await rig.take())
    row = await rig.row()
    assert (row["stc"], row["defa"]) == ("2", "job stalled more than allowable limit")
    assert len([message for message in caplog.messages if "count as stalls instead" in message]) == 1
    await rig.client.aclose()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


async def test_deaths_are_counted_on_a_cluster(cluster: Cluster, make_rig: MakeRig) -> None:
    """Our own key lies where the job does, or the script could not touch both."""
    for owner in cluster.servers[:3]:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
        rig = make_rig(Endpoint(url=f"redis+cluster://{hosts}", prefix=cluster.prefix_on(owner)), deaths=2)
        await rig.add()
        await rig.add("other")
        await rig.die(await rig.take(), await rig.take())
        assert sorted([await rig.state(), await rig.state("other")]) == ["delayed", "waiting"]
        lease = await rig.take()
        await rig.die(lease)
        assert rig.poison == [("q", lease.job_id)]
        assert (await rig.row(lease.job_id))["defa"].startswith("poison: its process died 2 times")

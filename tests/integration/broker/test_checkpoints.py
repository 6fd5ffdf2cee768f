"""A job goes on where its last run had saved, whatever became of that run, and nobody else's state is ever found."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import Made, MakeWorker, Server, free_port, wait_until
from workers.broker.activation import Activation
from workers.broker.checkpoints import KEPT_MS, MAX_CHECKPOINT, NotOursError
from workers.broker.endings import AwaitingChildren, Completed, Delayed, Ending, Failed, HandedBack, Requeued, Retry
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobActive, JobCompleted, JobFailed, JobHandedBack, JobStalled, WorkerError
from workers.broker.hold import Hold
from workers.broker.keys import CHECKPOINT_FIELD

#: A process whose job saves its first half and then hangs.
CHILD = """
import asyncio, sys
from tests.fleet_worker import Served
from workers.broker.endings import Completed
from workers.broker.endpoint import Endpoint

async def work(job, hold):
    print(await hold.checkpoint({"half": "first"}), flush=True)
    await asyncio.sleep(3600)
    return Completed(result=None)

async def main():
    endpoint = Endpoint(url=sys.argv[1], prefix=sys.argv[2])
    served = Served(work, endpoint=endpoint, emit=lambda event: None, name="child",
        lock_ms=1000, stalled_interval_ms=200)
    await served.worker.start()
    await served.worker.wait()

asyncio.run(main())
"""


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


def key(prefix: str, job: Any) -> str:
    return f"fleet:{prefix}:q:checkpoint:{job.id}"


async def test_run_after_a_dead_process_goes_on_where_it_had_saved(
    make_worker: MakeWorker, queue: Any, redis: Redis, redis_url: str, prefix: str
) -> None:
    job = await queue.add("n", {})
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, redis_url, prefix, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    said = await child.stdout.readline()
    child.kill()
    await child.communicate()
    assert said == b"True\n"
    assert 0 < await redis.pttl(key(prefix, job)) <= KEPT_MS

    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result=[job.fence, await hold.restored()])

    made = await make_worker(work, stalled_interval_ms=200)
    await wait_until(lambda: made.of(JobCompleted))
    assert made.of(JobStalled)
    assert made.of(JobCompleted)[0].result == [2, {"half": "first"}]
    await wait_until(lambda: _gone(redis, key(prefix, job)))
    assert not made.of(WorkerError)


async def _gone(redis: Redis, name: str) -> Any:
    return not await redis.exists(name)


@pytest.mark.parametrize(
    "ending",
    [
        Retry(reason="r", error="E", delay_ms=0),
        Retry(reason="r", error="E", delay_ms=10),
        Delayed(reason="r", delay_ms=10),
        Requeued(reason="r"),
        AwaitingChildren(reason="r", delay_ms=10),
    ],
)
async def test_checkpoint_is_kept_until_the_job_is_over(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, ending: Ending
) -> None:
    found: list[Any] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        found.append(await hold.restored())
        if len(found) == 1:
            await hold.checkpoint({"step": 1})
        return Completed(result=None) if len(found) == 3 else ending  # restored twice, saved once

    job = await queue.add("n", {}, {"attempts": 5})
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobCompleted))
    assert found == [None, {"step": 1}, {"step": 1}]
    await wait_until(lambda: _gone(redis, key(prefix, job)))
    assert not made.of(WorkerError)


async def test_run_after_a_hand_back_goes_on_although_its_start_was_taken_back(
    make_worker: MakeWorker, queue: Any
) -> None:
    async def interrupted(job: Activation, hold: Hold) -> Ending:
        await hold.checkpoint("here")
        await hold.interrupted.wait()
        return HandedBack(reason="drain")

    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result=[job.fence, await hold.restored()])

    await queue.add("n", {})
    first = await make_worker(interrupted)
    await wait_until(lambda: first.of(JobActive))
    await first.worker.stop(by=time.monotonic() + 5)
    assert first.of(JobHandedBack)
    second = await make_worker(work)
    await wait_until(lambda: second.of(JobCompleted))
    assert second.of(JobCompleted)[0].result == [1, "here"]


async def test_job_that_failed_for_good_is_forgotten(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.checkpoint(1)
        return Failed(reason="no", error="E")

    job = await queue.add("n", {})
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobFailed))
    await wait_until(lambda: _gone(redis, key(prefix, job)))


async def test_worker_that_ends_has_forgotten_what_it_had_to(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.checkpoint("x" * 1000)
        return Completed(result=None)

    await queue.addBulk([{"name": "n", "data": {}} for _ in range(50)])
    made = await make_worker(work, slots=10)
    await wait_until(lambda: len(made.of(JobCompleted)) == 50)
    await made.worker.stop(by=time.monotonic() + 5)
    assert await redis.keys(f"fleet:{prefix}:*") == []


async def test_run_that_lost_its_lock_overwrites_nothing(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """The job's lock is taken by hand, as another worker would do it after the stalled check."""
    saved: list[bool] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        saved.append(await hold.checkpoint("mine"))
        await redis.set(f"{prefix}:q:{job.id}:lock", "another", px=60_000)
        await redis.hset(key(prefix, job), "state", '"newer"')
        saved.append(await hold.checkpoint("older"))
        assert hold.interrupt is not None and hold.interrupt.kind == "lock_lost"
        await redis.set(f"{prefix}:q:{job.id}:lock", job.token, px=3000)
        return Completed(result=await hold.restored())

    job = await queue.add("n", {})
    await redis.hset(f"{prefix}:q:{job.id}", CHECKPOINT_FIELD, "m")
    made = await make_worker(work, lock_ms=60_000)
    await wait_until(lambda: made.of(JobCompleted))
    assert saved == [True, False]
    assert made.of(JobCompleted)[0].result == "newer"
    (told,) = made.of(WorkerError)
    assert isinstance(told.error, NotOursError) and told.where == "checkpoint" and told.job_id == job.id


async def test_job_that_is_removed_while_it_runs_is_not_made_anew(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    saved: list[bool] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        await redis.delete(f"{prefix}:q:{job.id}")
        saved.append(await hold.checkpoint(1))
        await redis.delete(f"{prefix}:q:{job.id}:lock")
        return Completed(result=None)

    job = await queue.add("n", {})
    made = await make_worker(work)
    await wait_until(lambda: saved)
    await made.worker.stop(by=time.monotonic() + 5)
    assert saved == [False]
    assert not await redis.exists(key(prefix, job), f"{prefix}:q:{job.id}")


async def test_job_with_the_id_of_an_older_one_starts_from_the_beginning(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    found: list[Any] = []
    older = await queue.add("n", {}, {"jobId": "same"})
    hang = asyncio.Event()

    async def work(job: Activation, hold: Hold) -> Ending:
        found.append(await hold.restored())
        if len(found) < 3:
            await hold.checkpoint(f"run {len(found)}")
            return Delayed(delay_ms=600_000, reason="later") if len(found) == 1 else Requeued(reason="again")
        await hang.wait()
        return Completed(result=None)

    made = await make_worker(work)
    await wait_until(lambda: len(found) == 1)

    async def delayed() -> Any:
        return bool(await redis.zcard(f"{prefix}:q:delayed"))

    await wait_until(delayed)
    await queue.remove("same")
    assert await redis.exists(key(prefix, older))
    await queue.add("n", {}, {"jobId": "same"})
    await wait_until(lambda: len(found) == 3)
    assert found == [None, None, "run 2"]
    hang.set()
    await wait_until(lambda: made.of(JobCompleted))


async def test_late_farewell_leaves_the_newer_jobs_checkpoint_alone(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.checkpoint("mine")
        await redis.hset(key(prefix, job), mapping={"job": "another", "state": '"theirs"'})
        return Completed(result=None)

    job = await queue.add("n", {})
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobCompleted))
    await made.worker.stop(by=time.monotonic() + 5)
    assert await redis.hget(key(prefix, job), "state") == '"theirs"'


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"state": "{"}, "can't be read"),
        ({"state": "NaN"}, "NaN is no JSON"),
        ({"state": b"\xff"}, "can't be read"),
        ({}, "has no state"),
        ("text", "WRONGTYPE"),
    ],
)
async def test_corrupt_checkpoint_is_reported_passed_over_and_replaced(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str, stored: Any, message: str
) -> None:
    found: list[Any] = []

    async def work(job: Activation, hold: Hold) -> Ending:
        found.append(await hold.restored())
        if len(found) == 2:
            return Completed(result=None)
        await hold.checkpoint("sound")
        return Retry(reason="r", error="E", delay_ms=0)

    job = await queue.add("n", {}, {"attempts": 2})
    await redis.hset(f"{prefix}:q:{job.id}", CHECKPOINT_FIELD, "m")
    if isinstance(stored, dict):
        await redis.hset(key(prefix, job), mapping={"job": "m", **stored})
    else:
        await redis.set(key(prefix, job), stored)
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobCompleted))
    assert found == [None, "sound"]
    (told,) = made.of(WorkerError)
    assert message in str(told.error)


async def test_checkpoint_that_has_expired_is_none(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        return Completed(result=await hold.restored())

    job = await queue.add("n", {})
    await redis.hset(f"{prefix}:q:{job.id}", CHECKPOINT_FIELD, "m")
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobCompleted))
    assert made.of(JobCompleted)[0].result is None and not made.of(WorkerError)


async def test_largest_checkpoint_fits(make_worker: MakeWorker, queue: Any) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        if job.fence == 1:
            assert await hold.checkpoint("x" * (MAX_CHECKPOINT - 2))
            return Requeued(reason="again")
        return Completed(result=len(await hold.restored()))

    await queue.add("n", {})
    made = await make_worker(work)
    await wait_until(lambda: made.of(JobCompleted))
    assert made.of(JobCompleted)[0].result == MAX_CHECKPOINT - 2


async def test_job_and_checkpoint_share_a_slot_of_a_cluster(
    make_worker: MakeWorker, make_server: Callable[..., Server]
) -> None:
    server = make_server("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--appendonly", "no")
    async with Redis(port=server.port, protocol=2) as admin:
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]

        async def served() -> Any:
            return b"cluster_state:ok" in await admin.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]

        await wait_until(served)

    async def work(job: Activation, hold: Hold) -> Ending:
        restored = await hold.restored()
        if restored is None:
            assert await hold.checkpoint("here")
            return Requeued(reason="again")
        return Completed(result=restored)

    endpoint = Endpoint(url=f"redis+cluster://127.0.0.1:{server.port}", prefix="{tag}")
    client = endpoint.commands()
    await Queue("q", {"connection": client, "prefix": "{tag}"}).add("n", {})
    made: Made = await make_worker(work, endpoint=endpoint)
    await wait_until(lambda: made.of(JobCompleted))
    assert made.of(JobCompleted)[0].result == "here" and not made.of(WorkerError)
    await made.worker.stop(by=time.monotonic() + 5)
    assert await client.keys("fleet:*") == []
    await client.aclose()

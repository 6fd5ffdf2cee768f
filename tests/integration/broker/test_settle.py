"""After a lost reply the state of a real server decides: each ending, applied or not, with and without a next job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from workers.broker.activation import Activation, Bounds
from workers.broker.backend import Fetched, FleetBackend
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost, Retry
from workers.broker.endpoint import Endpoint
from workers.broker.refusals import RefusedError
from workers.broker.settings import WorkerSettings
from workers.broker.settle import Settled, find_by_token, settle

ENDINGS: dict[str, Ending] = {
    "completed": Completed(result=1),
    "failed": Failed(reason="no", error="E", stack="S"),
    "retry-at-once": Retry(reason="no", error="E", delay_ms=0),
    "retry-later": Retry(reason="no", error="E", delay_ms=60_000),
    "delayed": Delayed(delay_ms=60_000, reason="later"),
    "handed-back": HandedBack(reason="drain"),
}
FETCHES_NEXT = ("completed", "failed", "retry-later", "delayed")
every_ending = pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
async def backend(endpoint: Endpoint) -> AsyncIterator[FleetBackend]:
    client, blocking = endpoint.commands(), endpoint.blocking("q", "w")
    yield FleetBackend("q", client, blocking, endpoint.prefix, WorkerSettings(name="w"))
    await client.aclose()
    await blocking.aclose()


@pytest.fixture
async def active(queue: Any, backend: FleetBackend) -> Activation:
    """A job that this slot holds."""
    await queue.add("n", {}, {"jobId": "mine", "attempts": 5})
    job = (await backend.fetch("slot")).activation
    assert job is not None
    return job


async def end(backend: FleetBackend, job: Activation | None, ending: Ending | None = None) -> Fetched:
    """Write an ending whose reply was not lost; the clean end of a test."""
    assert job is not None
    return await backend.finish(job, ending or Completed(result=None), fetch_next=False)


@every_ending
async def test_ending_that_did_not_arrive_leaves_the_job_ours(
    backend: FleetBackend, active: Activation, ending: Ending
) -> None:
    assert await settle(backend, active, ending) == Settled(applied=False, ours=True)
    await end(backend, active)


@every_ending
@pytest.mark.parametrize("fetch_next", [True, False])
async def test_ending_that_was_applied_is_seen_on_the_row(
    backend: FleetBackend, active: Activation, ending: Ending, fetch_next: bool
) -> None:
    await backend.finish(active, ending, fetch_next=fetch_next)
    assert await settle(backend, active, ending) == Settled(applied=True, ours=False)


@pytest.mark.parametrize("kind", FETCHES_NEXT)
async def test_job_that_came_with_the_lost_reply_is_found(
    backend: FleetBackend, queue: Any, active: Activation, kind: str
) -> None:
    await queue.add("n", {"x": 1}, {"jobId": "next"})
    await backend.finish(active, ENDINGS[kind], fetch_next=True)
    settled = await settle(backend, active, ENDINGS[kind])
    assert (settled.applied, settled.ours) == (True, False)
    assert settled.next_job is not None
    assert (settled.next_job.id, settled.next_job.token, settled.next_job.data) == ("next", "slot", {"x": 1})
    await end(backend, settled.next_job)


@pytest.mark.parametrize("kind", ["completed", "failed"])
async def test_ending_that_removed_its_job_was_applied(backend: FleetBackend, queue: Any, kind: str) -> None:
    await queue.add("n", {}, {"removeOnComplete": True, "removeOnFail": True})
    job = (await backend.fetch("slot")).activation
    await end(backend, job, ENDINGS[kind])
    assert job is not None
    assert await settle(backend, job, ENDINGS[kind]) == Settled(applied=True, ours=False)


@pytest.mark.parametrize("kind", ["retry-at-once", "retry-later", "delayed", "handed-back"])
async def test_job_that_vanished_was_not_put_back(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation, kind: str
) -> None:
    await redis.delete(f"{prefix}:q:mine", f"{prefix}:q:mine:lock", f"{prefix}:q:active")
    assert await settle(backend, active, ENDINGS[kind]) == Settled(applied=False, ours=False)


@every_ending
async def test_job_whose_lock_expired_is_neither_ended_nor_ours(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation, ending: Ending
) -> None:
    await redis.delete(f"{prefix}:q:mine:lock")
    assert await settle(backend, active, ending) == Settled(applied=False, ours=False)
    with pytest.raises(RefusedError) as refused:
        await backend.finish(active, ending, fetch_next=False)
    assert refused.value.lost == "its lock expired"


async def stall(backend: FleetBackend, redis: Redis, prefix: str) -> Activation:
    """The job's lock expires, BullMQ puts it back, another worker takes it."""
    await redis.delete(f"{prefix}:q:mine:lock")
    for _ in range(2):  # the first round marks, the second moves
        await redis.delete(f"{prefix}:q:stalled-check")
        await backend.moveStalledJobsToWait(2, 1)
    other = (await backend.fetch("other")).activation
    assert other is not None and other.stalls == 1
    return other


@every_ending
async def test_job_that_another_worker_runs_is_not_ours(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation, ending: Ending
) -> None:
    other = await stall(backend, redis, prefix)
    assert await settle(backend, active, ending) == Settled(applied=False, ours=False)
    await end(backend, other)


@every_ending
async def test_what_another_worker_did_with_the_job_is_not_taken_for_ours(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation, ending: Ending
) -> None:
    other = await stall(backend, redis, prefix)
    await end(backend, other, ending)
    assert await settle(backend, active, ending) == Settled(applied=False, ours=False)


async def test_retry_that_is_running_again_was_applied(backend: FleetBackend, active: Activation) -> None:
    retry = ENDINGS["retry-at-once"]
    await backend.finish(active, retry, fetch_next=False)
    again = (await backend.fetch("other")).activation
    assert await settle(backend, active, retry) == Settled(applied=True, ours=False)
    await end(backend, again)


async def test_lost_is_never_applied(backend: FleetBackend, active: Activation) -> None:
    gone = replace(active, token="someone-else")
    assert await settle(backend, gone, Lost(reason="r")) == Settled(applied=False, ours=False)
    await end(backend, active)


async def test_row_that_can_not_be_read_is_settled_too(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation
) -> None:
    await end(backend, active)
    await redis.hset(f"{prefix}:q:mine", mapping={"atm": "many", "opts": "{", "stc": "-"})
    assert await settle(backend, active, ENDINGS["completed"]) == Settled(applied=False, ours=False)


async def test_half_of_a_hand_back_is_sent_again_and_takes_nothing_twice(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start is taken back, but the job is still active: the connection broke in between."""

    async def breaks(keys: list[str], args: list[Any]) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(backend._own, "move_to_wait", breaks)
        with pytest.raises(ConnectionError):
            await backend.finish(active, ENDINGS["handed-back"], fetch_next=False)
    assert await redis.hget(f"{prefix}:q:mine", "ats") == "0"
    assert await settle(backend, active, ENDINGS["handed-back"]) == Settled(applied=False, ours=True)
    await backend.finish(active, ENDINGS["handed-back"], fetch_next=False)
    assert await redis.hget(f"{prefix}:q:mine", "ats") == "0"
    assert await settle(backend, active, ENDINGS["handed-back"]) == Settled(applied=True, ours=False)


async def test_start_of_another_worker_is_not_taken_back(
    backend: FleetBackend, redis: Redis, prefix: str, active: Activation
) -> None:
    await backend._own.move_to_wait(
        backend._named("active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events"),
        [active.id, active.token, backend.toKey(active.id)],
    )
    other = (await backend.fetch("other")).activation
    assert other is not None and other.fence == 2
    await backend.unspend_start(active)
    assert await redis.hget(f"{prefix}:q:mine", "ats") == "2"
    await end(backend, other)
    await redis.delete(f"{prefix}:q:mine")
    await backend.unspend_start(other)
    assert not await redis.exists(f"{prefix}:q:mine")


async def test_job_that_a_lost_fetch_took_is_found_by_its_token(backend: FleetBackend, queue: Any) -> None:
    assert await find_by_token(backend, "slot") is None
    for index in range(3):
        await queue.add("n", {"i": index}, {"jobId": f"j{index}"})
    jobs = [(await backend.fetch(token)).activation for token in ("one", "two", "three")]
    found = await find_by_token(backend, "two")
    assert found is not None and jobs[1] is not None
    assert (found.id, found.token, found.data) == (jobs[1].id, "two", {"i": 1})
    assert await find_by_token(backend, "four") is None
    await asyncio.gather(*(end(backend, job) for job in jobs))


@pytest.mark.parametrize("count", [10**30, 1e300, 2.5, -1, "many"])
async def test_hostile_options_can_not_keep_an_ending_from_being_written(
    backend: FleetBackend, queue: Any, redis: Redis, prefix: str, count: Any
) -> None:
    """Each of these would break msgpack or the script, for ever, with the job active and its slot taken."""
    keep = {"removeOnComplete": {"age": count, "count": count, "limit": count}, "removeOnFail": count}
    for ending in (ENDINGS["completed"], ENDINGS["failed"]):
        await queue.add("n", {}, {"jobId": "j", "delay": 60_000})
        opts = json.dumps({"attempts": count, "stackTraceLimit": True})
        await redis.hset(f"{prefix}:q:j", "opts", opts)
        await queue.promoteJobs()
        job = (await backend.fetch("slot")).activation
        assert job is not None and not job.defects
        await end(backend, replace(job, opts={**job.opts, **keep}), ending)
        assert await redis.llen(f"{prefix}:q:active") == 0
        await redis.delete(f"{prefix}:q:j", f"{prefix}:q:completed", f"{prefix}:q:failed")


async def test_next_job_of_a_lost_reply_is_read_within_the_workers_bounds(endpoint: Endpoint, queue: Any) -> None:
    """It is read by another way than fetched jobs are, and may be as large as any."""
    await queue.add("n", {"text": "x" * 100}, {"jobId": "large"})
    client, blocking = endpoint.commands(), endpoint.blocking("q", "w")
    bounded = FleetBackend(
        "q", client, blocking, endpoint.prefix, WorkerSettings(name="w", bounds=Bounds(data_bytes=99))
    )
    reason = "data: 111 bytes, more than the 99 this queue accepts (max_data)"
    fetched = (await bounded.fetch("slot")).activation
    found = await find_by_token(bounded, "slot")
    for job in (fetched, found):
        assert job is not None and (job.id, job.data, job.defects) == ("large", None, (reason,))
    await end(bounded, found)
    await client.aclose()
    await blocking.aclose()

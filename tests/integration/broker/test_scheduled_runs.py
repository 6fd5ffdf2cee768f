"""Runs of schedules in our worker: one plans the next, and what was missed is one late run or none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker.activation import Activation
from workers.broker.backend import now_ms
from workers.broker.endings import Completed, Ending, HandedBack
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, WorkerError
from workers.broker.hold import Hold
from workers.broker.schedule_view import own_option
from workers.broker.schedulers import NewSchedule, Schedulers

EVERY = {"every": 200}


@pytest.fixture
async def schedulers(endpoint: Endpoint) -> AsyncIterator[Schedulers]:
    client = endpoint.commands()
    yield Schedulers(client, endpoint.prefix)
    await client.aclose()


def schedule(repeat: dict[str, Any], *, queue: str = "q", **options: Any) -> NewSchedule:
    return NewSchedule(queue=queue, id="s", name="tick", repeat=repeat, data={"type": "q", "n": 1}, options=options)


async def age(redis: Redis, prefix: str, by_ms: int) -> str:
    """Let time pass for the next run, as while nothing worked: it was due so long ago. Returns its new id."""
    base = f"{prefix}:q"
    due = int(await redis.zscore(f"{base}:repeat", "s") or 0)
    old, new = f"repeat:s:{due}", f"repeat:s:{due - by_ms}"
    await redis.rename(f"{base}:{old}", f"{base}:{new}")
    row: Any = await redis.hgetall(f"{base}:{new}")
    await redis.hset(f"{base}:{new}", "timestamp", int(row["timestamp"]) - by_ms)
    await redis.zrem(f"{base}:delayed", old)
    await redis.zadd(f"{base}:delayed", {new: (due - by_ms) * 0x1000})
    await redis.zadd(f"{base}:repeat", {"s": due - by_ms})
    return new


async def test_every_run_plans_the_next_until_its_limit(schedulers: Schedulers, make_worker: MakeWorker) -> None:
    made = await make_worker()
    assert await schedulers.put(schedule({**EVERY, "limit": 3})) == "ok"
    await wait_until(lambda: len(made.of(JobCompleted)) == 3)
    await asyncio.sleep(0.5)
    assert len({event.job_id for event in made.of(JobCompleted)}) == 3
    found = (await schedulers.read("q", ["s"]))["s"].stored
    assert found is not None and (found.runs, found.next_run) == (3, "over")


async def test_runs_go_on_counting_when_it_is_written_again(schedulers: Schedulers, make_worker: MakeWorker) -> None:
    await schedulers.put(schedule({**EVERY, "limit": 3}), done=2)
    made = await make_worker()
    await wait_until(lambda: made.of(JobCompleted))
    await asyncio.sleep(0.5)
    assert len(made.of(JobCompleted)) == 1


async def test_each_run_is_a_task_of_its_own(schedulers: Schedulers, make_worker: MakeWorker) -> None:
    seen: list[tuple[Any, str]] = []

    async def execute(job: Activation, hold: Hold) -> Ending:
        seen.append((job.data, job.id))
        return Completed(result=None)

    await make_worker(execute)
    await schedulers.put(schedule({**EVERY, "limit": 2}))
    await wait_until(lambda: len(seen) == 2)
    assert [data["id"] for data, _ in seen] == [job_id for _, job_id in seen]
    assert all(data["n"] == 1 and data["type"] == "q" for data, _ in seen)


async def test_cron_ends_with_its_end(schedulers: Schedulers, make_worker: MakeWorker) -> None:
    """The package's own strategy plans a run after it."""
    made = await make_worker()
    end = now_ms() + 2_100
    await schedulers.put(schedule({"pattern": "* * * * * *", "tz": "UTC", "endDate": end}))
    await wait_until(lambda: made.of(JobCompleted))
    await wait_until(lambda: now_ms() > end + 1_500)
    assert max(int(event.job_id.rpartition(":")[2]) for event in made.of(JobCompleted)) <= end
    found = (await schedulers.read("q", ["s"]))["s"].stored
    assert found is not None and found.next_run == "over" and found.next_ms <= end


async def test_missed_runs_are_one_late_run(
    schedulers: Schedulers, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    """BullMQ's own way: however many there were."""
    await schedulers.put(schedule({"pattern": "0 * * * *", "tz": "UTC"}))
    missed = await age(redis, prefix, 5 * 3_600_000)
    made = await make_worker()
    await wait_until(lambda: made.of(JobCompleted))
    (event,) = made.of(JobCompleted)
    assert (event.job_id, event.result) == (missed, {"id": missed})
    found = (await schedulers.read("q", ["s"]))["s"].stored
    assert found is not None and found.next_ms > now_ms() and found.runs == 2


async def test_missed_runs_are_left_out_where_that_is_asked_for(
    schedulers: Schedulers, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    ran: list[str] = []

    async def execute(job: Activation, hold: Hold) -> Ending:
        ran.append(job.id)
        return Completed(result=None)

    await schedulers.put(schedule({"pattern": "0 * * * *", "tz": "UTC"}, **own_option("skip", 60_000)))
    missed = await age(redis, prefix, 5 * 3_600_000)
    made = await make_worker(execute)
    await wait_until(lambda: made.of(JobCompleted))
    (event,) = made.of(JobCompleted)
    assert event.job_id == missed and event.result["skipped"] == "missed" and event.result["lateMs"] > 3_600_000
    assert not ran
    found = (await schedulers.read("q", ["s"]))["s"].stored
    assert found is not None and found.next_run == "planned" and found.missed == ("skip", 60_000), "it goes on"


async def test_run_in_time_is_not_left_out(schedulers: Schedulers, make_worker: MakeWorker) -> None:
    made = await make_worker()
    await schedulers.put(schedule({**EVERY, "limit": 2}, **own_option("skip", 60_000)))
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    assert all(event.result == {"id": event.job_id} for event in made.of(JobCompleted))


async def test_run_that_began_in_time_goes_on_after_a_drain_however_late(
    schedulers: Schedulers, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    """A hand-back takes the start back: that it has begun is known by its schedule, which has gone on since."""
    started = asyncio.Event()

    async def until_drained(job: Activation, hold: Hold) -> Ending:
        started.set()
        await wait_until(lambda: hold.interrupt)
        return HandedBack(reason="drain")

    await schedulers.put(schedule({"every": 3_600_000}, **own_option("skip", 30_000)))
    first = await make_worker(until_drained)
    await asyncio.wait_for(started.wait(), 10)
    await first.worker.stop(by=time.monotonic() + 1)
    waiting: Any = await redis.lrange(f"{prefix}:q:wait", 0, -1)
    (job_id,) = waiting
    added = int(await redis.hget(f"{prefix}:q:{job_id}", "timestamp") or 0)
    await redis.hset(f"{prefix}:q:{job_id}", "timestamp", added - 3_600_000)
    second = await make_worker()
    await wait_until(lambda: second.of(JobCompleted))
    (event,) = second.of(JobCompleted)
    assert (event.job_id, event.result) == (job_id, {"id": job_id})


async def test_expression_that_we_can_not_read_is_told_and_the_run_is_run(
    schedulers: Schedulers, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    await schedulers.put(schedule({"pattern": "0 * * * *", "tz": "UTC"}))
    job_id = await age(redis, prefix, 3_600_000)
    opts = '{"repeat":{"pattern":"H * * * *","count":1},"repeatJobKey":"s"}'
    await redis.hset(f"{prefix}:q:{job_id}", "opts", opts)
    made = await make_worker()
    await wait_until(lambda: made.of(JobCompleted))
    (error,) = made.of(WorkerError)
    assert error.where == "scheduler" and error.job_id == job_id

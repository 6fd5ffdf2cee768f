"""Node's and our workers on one queue: each job is completed once, by one of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes, policy
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from tests.interop.conftest import Node
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, HandedBack
from workers.broker.events import JobActive, JobCompleted
from workers.broker.hold import Hold
from workers.dev.catcher import MailCatcher

pytestmark = pytest.mark.node
conform = pytest.mark.conform
JOBS = 200


async def each_was_completed_once(redis: Redis, base: str, ids: list[str]) -> None:
    """What Redis says, once nobody works any more: all in `completed`, one start, one attempt and one event each."""
    assert sorted(await redis.zrange(f"{base}:completed", 0, -1)) == sorted(ids)
    for place in ("wait", "active"):
        assert await redis.llen(f"{base}:{place}") == 0
    for job_id in ids:
        row: Any = await redis.hgetall(f"{base}:{job_id}")
        counts = {key: row.get(key) for key in ("atm", "ats", "stc", "failedReason")}
        assert counts == {"atm": "1", "ats": "1", "stc": None, "failedReason": None}, job_id
    events: Any = await redis.xrange(f"{base}:events")
    told = Counter(fields["jobId"] for _, fields in events if fields["event"] == "completed")
    assert told == Counter(ids)


@conform("Workers", "Node's and ours on one queue")
async def test_workers_share_the_load_and_no_job_is_completed_twice(
    node: Node, bullmq: int, make_worker: MakeWorker, redis: Redis, prefix: str
) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await asyncio.sleep(0.005)
        return Completed(result={"by": "python"})

    jobs = [{"queue": "q", "name": "n", "data": {"i": i}, "opts": {"jobId": f"j{i}"}} for i in range(JOBS)]
    theirs = await node.worker(bullmq=bullmq, queue="q", concurrency=2, work_ms=5)
    ours = await make_worker(work, slots=2)
    await node.run("add.mjs", {"bullmq": bullmq}, jobs)
    await wait_until(lambda: len(ours.of(JobCompleted)) + len(theirs.of("completed")) >= JOBS)
    await theirs.end()
    await ours.worker.stop(by=time.monotonic() + 5)
    python = [event.job_id for event in ours.of(JobCompleted)]
    node_js = [line["id"] for line in theirs.of("completed")]
    assert sorted(python + node_js) == sorted(f"j{i}" for i in range(JOBS))
    assert python and node_js, "both sides had a share"
    await each_was_completed_once(redis, f"{prefix}:q", [f"j{i}" for i in range(JOBS)])


async def test_mails_are_shared_with_node_and_each_is_sent_by_one_side(
    node: Node,
    bullmq: int,
    start_fleet: Callable[..., Any],
    mails: MailCatcher,
    redis: Redis,
    prefix: str,
) -> None:
    ids = [f"mail{number}" for number in range(JOBS)]
    theirs = await node.worker(bullmq=bullmq, queue="email-send", concurrency=5, work_ms=5)
    ours = await start_fleet()
    await node.run("add.mjs", {"bullmq": bullmq}, [_mail(job_id) for job_id in ids])

    async def all_completed() -> Any:
        return await redis.zcard(f"{prefix}:email-send:completed") >= JOBS

    await wait_until(all_completed)
    # Both end what they do: nothing is completed after this.
    await theirs.end()
    await ours.service.stop(by=time.monotonic() + 5)
    python = [event.job_id for event in ours.events if isinstance(event, JobCompleted)]
    node_js = [line["id"] for line in theirs.of("completed")]
    assert sorted(python + node_js) == sorted(ids)
    assert python and node_js, "both sides had a share"
    sent = [message_from_bytes(file.read_bytes(), policy=policy.default)["To"] for file in mails.directory.iterdir()]
    assert sorted(sent) == sorted(f"{job_id}@example.com" for job_id in python), "what Node took was not sent as well"
    await each_was_completed_once(redis, f"{prefix}:email-send", ids)


def _mail(job_id: str) -> dict[str, Any]:
    data = {"type": "email-send", "id": job_id, "to": [f"{job_id}@example.com"], "subject": "Hello", "text": "Hi"}
    return {"queue": "email-send", "name": "email-send", "data": data, "opts": {"jobId": job_id}}


@conform("Stalled jobs", "a job of a dead Node worker")
async def test_job_of_a_dead_node_worker_is_taken_over(node: Node, bullmq: int, make_worker: MakeWorker) -> None:
    theirs = await node.worker(
        bullmq=bullmq, queue="q", work_ms=60_000, worker={"lockDuration": 1000, "stalledInterval": 300}
    )
    await node.run("add.mjs", {"bullmq": bullmq}, [{"queue": "q", "name": "n", "opts": {"jobId": "held"}}])
    await wait_until(lambda: theirs.of("active"))
    theirs.process.kill()
    await theirs.process.wait()
    ours = await make_worker(stalled_interval_ms=300)
    await wait_until(lambda: ours.of(JobCompleted))
    assert [event.attempt for event in ours.of(JobActive)] == [1]


@conform("Workers", "Node takes over what we hand back")
async def test_node_takes_over_what_we_hand_back(node: Node, bullmq: int, make_worker: MakeWorker) -> None:
    async def work(job: Activation, hold: Hold) -> Ending:
        await hold.interrupted.wait()
        return HandedBack(reason="drain")

    ours = await make_worker(work)
    await node.run("add.mjs", {"bullmq": bullmq}, [{"queue": "q", "name": "n", "opts": {"jobId": "back"}}])
    await wait_until(lambda: ours.of(JobActive))
    theirs = await node.worker(bullmq=bullmq, queue="q")
    await ours.worker.stop(by=time.monotonic() + 3)
    await wait_until(lambda: theirs.of("completed"))
    assert theirs.of("active") == [{"event": "active", "id": "back", "attemptsMade": 0}]

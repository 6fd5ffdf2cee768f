"""Node's and our workers on one queue: each job is completed once, by one of them."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.conftest import Node
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending, HandedBack
from workers.broker.events import JobActive, JobCompleted
from workers.broker.hold import Hold

pytestmark = pytest.mark.node
conform = pytest.mark.conform
JOBS = 200


@conform("Workers", "Node's and ours on one queue")
async def test_workers_share_the_load_and_no_job_is_completed_twice(
    node: Node, bullmq: int, make_worker: MakeWorker
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
    python = [event.job_id for event in ours.of(JobCompleted)]
    node_js = [line["id"] for line in theirs.of("completed")]
    assert sorted(python + node_js) == sorted(f"j{i}" for i in range(JOBS))
    assert python and node_js, "both sides had a share"


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

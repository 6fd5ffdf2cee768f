"""Hazard H6 of the package's worker; H4, H10 and H11 are in test_worker.py, test_outage.py and
tests/integration/runtime/test_executor_in_worker.py.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from tests.integration.broker.processors import MAIL, runs
from workers.broker.events import JobActive, JobHandedBack, WorkerState
from workers.contract import JobContext

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def test_loop_that_ends_while_the_worker_closes_ends(make_server: Callable[..., Server]) -> None:
    """H6: the stock worker's close() catches the cancellation of asyncio.run for ever, at 100 % CPU."""
    server = make_server()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.hazards.reproduce",
        "H6",
        "fleet",
        server.url,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert json.loads(output)["seen"] is False


async def test_close_that_is_cancelled_is_cancelled_and_a_second_one_ends_it(
    make_worker: MakeWorker, queue: Any, redis: Redis, prefix: str
) -> None:
    """H6: whoever waits for a close may give up, and the close goes on."""

    async def process(task: Any, ctx: JobContext) -> None:
        await asyncio.sleep(60)

    made = await make_worker(runs(process))
    await queue.add("n", MAIL)
    await wait_until(lambda: made.of(JobActive))
    closing = asyncio.create_task(made.worker.stop(by=time.monotonic() + 60))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(closing, 5)
    assert [event.state for event in made.of(WorkerState)] == ["running", "draining"]
    await made.worker.stop(by=time.monotonic() + 1)
    assert made.worker.drained
    assert made.of(WorkerState)[-1].state == "closed"
    assert len(made.of(JobHandedBack)) == 1
    assert await redis.llen(f"{prefix}:q:wait") == 1

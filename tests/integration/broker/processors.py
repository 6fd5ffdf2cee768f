"""Processors in a worker under test: the executor wired to it as `workers/fleet/queues.py` does."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bullmq import Queue

from tests.fleet_worker import Served
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, JobCompleted, JobFailed
from workers.broker.execution import Execute
from workers.contract import JobContext, retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.inline import Inline
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

Process = Callable[[Any, JobContext], Awaitable[Any]]

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
NEVER = 3600.0


def runs(process: Process, *, timeout_s: float = NEVER, attempts: int = 1) -> Execute:
    """An execution that decodes the job, drives this processor and decides the ending."""
    plan = Plan(
        isolation=Inline(process),
        classify=retry_all,
        ladder=Ladder.timeout(timeout_s),
        retry=RetryPolicy(attempts=attempts),
    )
    limits = Limits(max_data_bytes=10_000, unknown_delay_s=30, unknown_give_up_s=3600)
    return Executor({"email-send": plan}, limits).execute


class Unheard(BaseException):
    """No subclass of Exception."""


async def succeeds(task: Any, ctx: JobContext) -> str:
    """The simplest processor."""
    return "fine"


async def exits_in_a_task_of_its_own(url: str) -> None:
    """Run two jobs, the first of which ends a task that its processor made by sys.exit, and print how they ended. For
    a process of its own: asyncio may let the exit out of the loop.
    """

    async def leave() -> None:
        sys.exit("bye")

    async def process(task: Any, ctx: JobContext) -> str:
        if ctx.job_id == "bad":
            await asyncio.create_task(leave())
        return "fine"

    ended: dict[str, list[str]] = {"failed": [], "completed": []}
    both = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, JobCompleted | JobFailed):
            ended["failed" if isinstance(event, JobFailed) else "completed"].append(event.job_id)
        if sum(map(len, ended.values())) == 2:
            both.set()

    served = Served(runs(process), endpoint=Endpoint(url=url), emit=hear, drain_delay_s=0.2)
    await served.worker.start()
    queue = Queue("q", {"connection": url})
    for job_id in ("bad", "after"):
        await queue.add("n", MAIL, {"jobId": job_id})
    await queue.close()
    await both.wait()
    await served.stop(2)
    sys.stdout.write(json.dumps(ended))

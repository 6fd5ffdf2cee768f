"""A queue module of someone else's whose jobs may kill the process that runs them, block it, or break it."""
# ruff: noqa: ASYNC220, ASYNC251 - that is what it is for

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import BaseModel

from tasks.base import Task
from workers.contract import JobContext, QueueModule, Services


class Risky(Task):
    type: Literal["risky"] = "risky"
    kills: bool = False
    blocks: bool = False
    closes: bool = False
    starts: bool = False
    """A process in a session of its own."""
    seconds: float = 0.0


class NoOptions(BaseModel):
    pass


@asynccontextmanager
async def opened(services: Services, options: NoOptions) -> AsyncIterator[Any]:
    async def run(task: Risky, ctx: JobContext) -> dict[str, Any]:
        await asyncio.sleep(task.seconds)
        if task.starts:
            sleeper = subprocess.Popen(["sleep", "3600"], start_new_session=True)
            await ctx.progress({"pid": sleeper.pid})
            await asyncio.sleep(3600)
        if task.blocks:
            time.sleep(3600)
        if task.closes:
            os.closerange(0, 4096)
        if task.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"pid": os.getpid()}

    yield run


MODULE = QueueModule(task=Risky, options=NoOptions, open=opened)

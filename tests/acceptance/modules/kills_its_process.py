"""A queue module of someone else's whose jobs may kill the process that runs them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import BaseModel

from tasks.base import Task
from workers.contract import JobContext, QueueModule, Services


class Risky(Task):
    type: Literal["risky"] = "risky"
    kills: bool = False
    seconds: float = 0.0


class NoOptions(BaseModel):
    pass


@asynccontextmanager
async def opened(services: Services, options: NoOptions) -> AsyncIterator[Any]:
    async def run(task: Risky, ctx: JobContext) -> dict[str, Any]:
        await asyncio.sleep(task.seconds)
        if task.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"pid": os.getpid()}

    yield run


MODULE = QueueModule(task=Risky, options=NoOptions, open=opened)

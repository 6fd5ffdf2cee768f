"""A queue module of someone else's whose jobs add mails until they are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import BaseModel

from tasks.base import Task
from tasks.email_send import EmailSend
from workers.contract import JobContext, QueueModule, Services, TransientError


class Invitation(Task):
    type: Literal["invitation"] = "invitation"
    mails: int


class NoOptions(BaseModel):
    pass


@asynccontextmanager
async def opened(services: Services, options: NoOptions) -> AsyncIterator[Any]:
    async def run(task: Invitation, ctx: JobContext) -> dict[str, Any]:
        for number in range(task.mails):
            mail = EmailSend(id=f"{task.id}-{number}", to=["dana@example.com"], subject="Hello", text="Come in.")
            try:
                await ctx.add(mail)
            except TransientError as error:
                return {"added": number, "refused": str(error)}
            await asyncio.sleep(0.1)  # how much waits is looked at once a second
        return {"added": task.mails, "refused": None}

    yield run


MODULE = QueueModule(task=Invitation, options=NoOptions, open=opened)

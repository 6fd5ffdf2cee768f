"""Serves queue `hostile` with an `async def`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.hostile.acts import classify, perform
from tests.hostile.task import Hostile, HostileOptions
from workers.contract import JobContext, Processor, QueueModule, Services


class AsyncActs:
    concurrent = True

    def __init__(self, options: HostileOptions, helper: subprocess.Popen[bytes] | None) -> None:
        self.options = options
        self.helper = helper

    async def __call__(self, task: Hostile, ctx: JobContext) -> Any:
        return await perform(task, ctx, self)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@asynccontextmanager
async def opened(options: HostileOptions) -> AsyncIterator[subprocess.Popen[bytes] | None]:
    if options.refuses or (options.refuse_file and os.path.exists(options.refuse_file)):  # noqa: ASYNC240
        raise ValueError(options.refuses or "refused by a file")
    if options.dies_file and os.path.exists(options.dies_file):  # noqa: ASYNC240
        os._exit(1)
    await asyncio.sleep(options.opens_in_s)
    note(options, "opened")
    helper = subprocess.Popen(["sleep", "3600"]) if options.helper else None  # noqa: ASYNC220
    yield helper
    if helper is not None:
        helper.kill()
        helper.wait()
    await asyncio.sleep(options.ends_in_s)
    note(options, "closed")


def note(options: HostileOptions, text: str) -> None:
    if options.note_file:
        with open(options.note_file, "a") as file:
            file.write(text + "\n")


@asynccontextmanager
async def open_async(services: Services, options: HostileOptions) -> AsyncIterator[Processor[Hostile]]:
    async with opened(options) as helper:
        yield AsyncActs(options, helper)


MODULE = QueueModule(task=Hostile, options=HostileOptions, open=open_async, classify=classify)

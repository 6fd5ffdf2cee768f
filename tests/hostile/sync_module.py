"""Serves queue `hostile` with a plain `def`, which goes through the same acts without a loop."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.hostile.acts import classify, perform
from tests.hostile.module import opened
from tests.hostile.task import Hostile, HostileOptions
from workers.contract import Effect, QueueModule, Services, SyncJobContext, SyncProcessor


class _Effect:
    def __init__(self, effect: Any) -> None:
        self._effect = effect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._effect, name)

    async def settle(self, result: Any = None) -> None:
        self._effect.settle(result)


class _AsyncFace:
    """A SyncJobContext that can be awaited: what is awaited has already been done."""

    def __init__(self, ctx: SyncJobContext) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ctx, name)
        if not callable(value) or name == "decline":
            return value

        async def call(*arguments: Any, **more: Any) -> Any:
            return value(*arguments, **more)

        return call

    @asynccontextmanager
    async def once(self, effect: str) -> AsyncIterator[Effect]:
        with self._ctx.once(effect) as held:
            yield _Effect(held)


class SyncActs:
    concurrent = False

    def __init__(self, options: HostileOptions, helper: subprocess.Popen[bytes] | None) -> None:
        self.options = options
        self.helper = helper

    def __call__(self, task: Hostile, ctx: SyncJobContext) -> Any:
        steps = perform(task, _AsyncFace(ctx), self)
        try:
            steps.send(None)
        except StopIteration as end:
            return end.value
        steps.close()
        raise RuntimeError(f"{task.act} waits for a loop")

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop


@asynccontextmanager
async def open_sync(services: Services, options: HostileOptions) -> AsyncIterator[SyncProcessor[Hostile]]:
    async with opened(options) as helper:
        yield SyncActs(options, helper)


MODULE = QueueModule(task=Hostile, options=HostileOptions, open=open_sync, classify=classify)

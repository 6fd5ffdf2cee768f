"""Supervisors that end with their test, and an ear for what asyncio complains about behind our backs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest

from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.supervisor import Supervisor


class Supervise(Protocol):
    async def __call__(self, *specs: ChildSpec, **options: Any) -> Supervisor: ...


@pytest.fixture
async def complaints() -> AsyncIterator[None]:
    """No task's error may go unseen."""
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(f"{context['message']}: {context.get('exception')!r}"))
    yield
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert heard == []


@pytest.fixture
async def supervise(complaints: None) -> AsyncIterator[Supervise]:
    """Starts supervisors; whatever still runs at the end is killed."""
    made: list[Supervisor] = []

    async def make(*specs: ChildSpec, **options: Any) -> Supervisor:
        made.append(Supervisor(specs, **options))
        await made[-1].start()
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop(by=time.monotonic() - 3600)

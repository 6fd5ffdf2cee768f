"""A held job without a server, and an ear for what asyncio complains about behind our backs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.hold import Hold


@pytest.fixture
def make_hold() -> Callable[..., Hold]:
    """Holds of jobs that no server knows."""

    def make(**fields: Any) -> Hold:
        job = Activation(**{"queue": "q", "id": "1", "token": "t", **fields})
        return Hold(job, cast(FleetBackend, None), lambda error, where, job_id: None)

    return make


@pytest.fixture
async def hold(make_hold: Callable[..., Hold]) -> Hold:
    return make_hold()


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What the loop's exception handler was told; the test fails if that is anything (never retrieved, destroyed …)."""
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(f"{context['message']}: {context.get('exception')!r}"))
    yield heard
    for _ in range(3):  # callbacks of tasks that ended just now
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert heard == []

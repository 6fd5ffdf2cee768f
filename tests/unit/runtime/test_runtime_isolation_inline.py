"""A processor on the loop: called with what it gets, and counted where it goes on although its run is over."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

import pytest

from tests.hostile.rig import Answers, call
from workers.contract import JobContext
from workers.runtime.isolation import left_behind
from workers.runtime.isolation.inline import Inline


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the isolations of other tests."""
    monkeypatch.setattr(left_behind, "_sources", WeakSet())


async def test_run_counts_as_left_behind_from_its_end_for_the_host_to_its_own() -> None:
    released = asyncio.Event()

    async def process(task: Any, ctx: JobContext) -> str:
        await released.wait()
        return "done"

    inline, contexts = Inline(process), [Answers(), Answers()]
    assert left_behind.counts() == {}
    runs = [asyncio.create_task(inline.run(call("unused", context))) for context in contexts]
    await asyncio.sleep(0)
    assert left_behind.counts() == {"hostile": 0}
    contexts[0].closed = True
    assert left_behind.counts() == {"hostile": 1}
    released.set()
    assert await asyncio.gather(*runs) == ["done", "done"]
    assert left_behind.counts() == {"hostile": 0}


async def test_queues_that_two_isolations_serve_are_counted_together() -> None:
    async def process(task: Any, ctx: JobContext) -> None:
        await asyncio.sleep(3600)

    context = Answers()
    isolations = [Inline(process), Inline(process)]
    runs = [asyncio.create_task(one.run(call("unused", context))) for one in isolations]
    await asyncio.sleep(0)
    context.closed = True
    assert left_behind.counts() == {"hostile": 2}
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)
    assert left_behind.counts() == {"hostile": 0}


async def test_run_that_fails_is_not_left_behind() -> None:
    async def process(task: Any, ctx: JobContext) -> None:
        raise ValueError("no")

    context, inline = Answers(), Inline(process)
    with pytest.raises(ValueError, match="no"):
        await inline.run(call("unused", context))
    context.closed = True
    assert left_behind.counts() == {"hostile": 0}

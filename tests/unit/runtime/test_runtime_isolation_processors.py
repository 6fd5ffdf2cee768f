"""Which kind a processor is, and what of its results can't be one."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from tests.hostile.rig import call
from workers.runtime.isolation.inline import Inline
from workers.runtime.isolation.processors import ResultError, checked, is_async

pytestmark = pytest.mark.usefixtures("complaints")


async def as_async(task: Any, ctx: Any) -> None: ...


def as_def(task: Any, ctx: Any) -> Any: ...


class AsyncObject:
    async def __call__(self, task: Any, ctx: Any) -> None: ...

    async def method(self, task: Any, ctx: Any) -> None: ...


class PlainObject:
    def __call__(self, task: Any, ctx: Any) -> None: ...

    def method(self, task: Any, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (as_async, True),
        (AsyncObject(), True),
        (AsyncObject().method, True),
        (functools.partial(as_async, ctx=None), True),
        (as_def, False),
        (PlainObject(), False),
        (PlainObject().method, False),
        (lambda task, ctx: as_async(task, ctx), False),
        (dict, False),
    ],
)
async def test_kind_of_a_processor_is_seen_before_it_is_called(process: Any, expected: bool) -> None:
    assert is_async(process) is expected


@pytest.mark.parametrize("value", [None, 1, "x", [1], {"a": 1}, object(), as_async])
async def test_result_is_passed_on(value: Any) -> None:
    assert checked(value) is value


async def test_work_that_nobody_awaits_is_no_result_and_is_put_away() -> None:
    coroutine, future = as_async(None, None), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(asyncio.sleep(3600))
    for value, name in ((coroutine, "coroutine"), (future, "Future"), (task, "Task")):
        with pytest.raises(ResultError, match=f"^the processor returned a {name} that nobody awaits: declare it"):
            checked(value)
    await asyncio.wait({task})
    assert future.cancelled()
    assert task.cancelled()


async def test_awaited_coroutine_function_that_returns_another_coroutine_fails_for_good() -> None:
    async def returns(task: Any, ctx: Any) -> Any:
        return as_async(task, ctx)

    with pytest.raises(ResultError):
        await Inline(returns).run(call("unused"))

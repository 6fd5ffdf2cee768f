from __future__ import annotations

import asyncio

import pytest

from tests.conftest import wait_until
from workers.broker.loop import Loop


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self) -> None:
        self.begun += 1
        await self.go_on.wait()
        if self.error is not None:
            raise self.error


async def test_cancelled_work_begins_anew_and_says_so() -> None:
    work, told, failed = Work(), list[str](), list[BaseException]()
    loop = Loop(work, on_failed=failed.append, on_cancelled=lambda: told.append("cancelled"))
    await wait_until(lambda: work.begun == 1)
    first = loop.task
    first.cancel()
    await wait_until(lambda: work.begun == 2)
    assert first.cancelled() and not loop.task.done()
    assert (told, failed, loop.error) == (["cancelled"], [], None)
    work.go_on.set()
    await loop.task
    assert work.begun == 2


async def test_work_cancelled_before_its_first_step_begins_anew() -> None:
    work = Work()
    loop = Loop(work, on_failed=lambda error: None)
    loop.task.cancel()
    await wait_until(lambda: work.begun == 1)
    work.go_on.set()
    await loop.task


async def test_settled_work_stays_cancelled() -> None:
    work, told = Work(), list[str]()
    loop = Loop(work, on_failed=lambda error: None, on_cancelled=lambda: told.append("cancelled"))
    await wait_until(lambda: work.begun == 1)
    loop.task.cancel()
    loop.settle()
    await asyncio.wait({loop.task})
    await asyncio.sleep(0)
    assert loop.task.cancelled()
    assert (work.begun, told, loop.error) == (1, [], None)


@pytest.mark.parametrize("error", [ValueError("broken"), GeneratorExit()])
async def test_failed_work_is_told_and_over(error: BaseException) -> None:
    work, failed = Work(), list[BaseException]()
    loop = Loop(work, on_failed=failed.append)
    work.error = error
    work.go_on.set()
    await wait_until(lambda: failed)
    assert failed == [error]
    assert loop.error is error
    assert work.begun == 1

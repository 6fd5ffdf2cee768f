"""Whatever a job's code makes is known as its own, from any thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from opentelemetry.trace import INVALID_SPAN

from workers.broker import running
from workers.broker.running import Running


@pytest.fixture
def job() -> Running:
    return Running("email-send", "email-send", "7", INVALID_SPAN)


def here() -> Running | None:
    return running.of(contextvars.copy_context())


async def in_child() -> Running | None:
    async def child() -> Running | None:
        return here()

    return await asyncio.create_task(child())


async def in_callback() -> Running | None:
    found: asyncio.Future[Running | None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0, lambda: found.set_result(here()))
    return await found


async def in_thread() -> Running | None:
    return await asyncio.to_thread(here)


@pytest.mark.parametrize("where", [in_child, in_callback, in_thread])
async def test_what_a_jobs_code_makes_is_its_own(
    job: Running, where: Callable[[], Coroutine[Any, Any, Running | None]]
) -> None:
    async def work() -> Running | None:
        running.begin(job)
        return await where()

    assert await asyncio.create_task(work()) is job
    assert here() is None


async def test_after_the_end_the_slot_works_for_no_job(job: Running) -> None:
    running.begin(job)
    left_behind = asyncio.create_task(in_child())
    running.end()
    assert here() is None
    assert await left_behind is job, "a task that the job left behind is still its own"


async def test_thread_that_works_for_a_job_is_known_while_it_does(job: Running) -> None:
    entered, leave = threading.Event(), threading.Event()

    def work() -> int:
        with running.in_thread():
            entered.set()
            leave.wait(10)
            return threading.get_ident()

    async def run() -> int:
        running.begin(job)
        return await asyncio.to_thread(work)

    task = asyncio.create_task(run())
    await asyncio.to_thread(entered.wait, 10)
    known = dict(running.threads())
    leave.set()
    assert known == {await task: job}
    assert not running.threads()


async def test_thread_of_a_job_that_raised_is_forgotten(job: Running) -> None:
    def work() -> None:
        with running.in_thread():
            raise ValueError

    async def run() -> None:
        running.begin(job)
        await asyncio.to_thread(work)

    with pytest.raises(ValueError):
        await asyncio.create_task(run())
    assert not running.threads()


def test_thread_without_a_job_is_nobodys() -> None:
    with running.in_thread():
        assert not running.threads()

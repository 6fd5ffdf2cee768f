"""Jobs of an isolation that has only so many places: they wait for one outside of their own time, and are spent by none
of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.broker.endings import Completed, Delayed, Ending, HandedBack, Lost
from workers.broker.hold import Hold, Interrupt
from workers.contract import retry_all
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.isolation.call import Call
from workers.runtime.isolation.place import NoPlaceError, Places, trouble_of
from workers.runtime.ladder import Ladder
from workers.runtime.retry import RetryPolicy

pytestmark = pytest.mark.usefixtures("complaints")

MAIL = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}
MakeHold = Callable[..., Hold]


class Room:
    """A place for one run, which is free once `open` is set."""

    def __init__(self) -> None:
        self.patience_s = 30.0
        self.open = asyncio.Event()
        self.waiting = 0
        self.free_again = 0
        self.calls: list[Call] = []
        self.trouble = ""
        self.error: Exception | None = None

    def take(self) -> Room | None:
        return self if self.open.is_set() else None

    async def place(self) -> Room:
        self.waiting += 1
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        if self.error is not None:
            raise self.error
        return self

    async def run(self, call: Call) -> Any:
        self.calls.append(call)
        return call.context.deadline

    def free(self) -> None:
        self.free_again += 1


@pytest.fixture
async def room() -> Room:
    return Room()


@pytest.fixture
def held(make_hold: MakeHold) -> Hold:
    return make_hold(data=MAIL, timestamp=round(time.time() * 1000))


def begun(room: Room, held: Hold) -> asyncio.Task[Ending]:
    plan = Plan(isolation=room, classify=retry_all, ladder=Ladder.timeout(100), retry=RetryPolicy(attempts=1))
    limits = Limits(max_data_bytes=1000, unknown_delay_s=30.0, unknown_give_up_s=3600.0)
    return asyncio.create_task(Executor({"email-send": plan}, limits).execute(held.job, held))


async def waits(room: Room, held: Hold) -> asyncio.Task[Ending]:
    task = begun(room, held)
    await wait_until(lambda: room.waiting)
    return task


async def test_place_that_is_free_is_taken_at_once(room: Room, held: Hold) -> None:
    room.open.set()
    assert isinstance(await begun(room, held), Completed)
    assert (len(room.calls), room.free_again) == (1, 1)


async def test_time_begins_when_there_is_a_place(room: Room, held: Hold) -> None:
    bounds: list[float] = []
    held.on_bound = bounds.append
    task = await waits(room, held)
    assert bounds[0] >= time.monotonic() + 100 + 29, "the lock lasts for the wait and the run"
    await asyncio.sleep(0.05)
    began = time.monotonic()
    room.open.set()
    ending = await task
    assert isinstance(ending, Completed)
    assert ending.result >= began + 100
    assert len(bounds) == 2


async def test_no_place_in_time_puts_the_job_off_with_the_reason(room: Room, held: Hold) -> None:
    room.error = NoPlaceError("no child process was free within 30 s", 10.0)
    task = await waits(room, held)
    room.open.set()
    assert await task == Delayed(delay_ms=10_000, reason="no child process was free within 30 s")
    assert room.calls == []


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("drain", HandedBack(reason="because")), ("lock_lost", Lost(reason="because"))],
)
async def test_slot_that_is_wanted_back_waits_no_longer(room: Room, held: Hold, kind: Any, ending: Ending) -> None:
    task = await waits(room, held)
    held.ask_back(Interrupt(kind, "because", time.monotonic() + 100))
    assert await task == ending
    assert (room.waiting, room.calls, held.on_interrupt) == (0, [], None)


async def test_slot_that_was_wanted_back_before_does_not_wait(room: Room, held: Hold) -> None:
    held.ask_back(Interrupt("drain", "because", time.monotonic() + 100))
    assert await begun(room, held) == HandedBack(reason="because")


async def test_wait_that_is_torn_down_leaves_the_place_free(room: Room, held: Hold) -> None:
    task = await waits(room, held)
    room.open.set()
    await asyncio.sleep(0)  # the place is ours, and nobody has looked yet
    task.cancel()
    await asyncio.wait({task})
    await wait_until(lambda: not room.waiting)
    await asyncio.sleep(0)
    assert room.calls == [] or room.free_again == 1


async def test_trouble_is_that_of_the_places(room: Room) -> None:
    assert isinstance(room, Places)
    trouble = trouble_of(room)
    assert trouble() == ""
    room.trouble = "no child process can be started: no memory"
    assert trouble() == "no child process can be started: no memory"
    assert trouble_of(object())() == ""

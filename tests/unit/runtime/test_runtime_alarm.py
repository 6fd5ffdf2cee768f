"""One timer wakes many sleepers: each in time, nobody twice, nobody who has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.runtime.alarm import Alarm

NEVER = 3600.0


class Sleepers:
    """Sleepers by name, and who was woken when."""

    def __init__(self) -> None:
        self.alarm = Alarm()
        self.woken: list[tuple[str, float]] = []
        self.rings = {name: self._ring(name) for name in "abcd"}

    def _ring(self, name: str) -> Callable[[], None]:
        return lambda: self.woken.append((name, time.monotonic()))

    def set(self, name: str, in_s: float) -> float:
        when = time.monotonic() + in_s
        self.alarm.set(self.rings[name], when, asyncio.get_running_loop())
        return when

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.woken]


async def test_sleepers_are_woken_in_their_order_and_not_before_their_time() -> None:
    sleepers = Sleepers()
    at = {"a": sleepers.set("a", 0.06), "b": sleepers.set("b", 0.02), "c": sleepers.set("c", 0.04)}
    sleepers.set("d", NEVER)
    await wait_until(lambda: len(sleepers.woken) == 3)
    assert sleepers.names == ["b", "c", "a"]
    assert all(when >= at[name] - 0.001 for name, when in sleepers.woken)


async def test_sleeper_that_is_set_anew_is_woken_once() -> None:
    sleepers = Sleepers()
    sleepers.set("a", 0.01)
    sleepers.set("a", 0.03)
    sleepers.set("b", NEVER)
    sleepers.set("b", 0.02)
    await wait_until(lambda: sleepers.names == ["b", "a"])
    sleepers.set("c", 0.01)
    await wait_until(lambda: sleepers.names == ["b", "a", "c"])


async def test_sleeper_that_has_gone_is_not_woken() -> None:
    sleepers = Sleepers()
    sleepers.set("a", 0.01)
    sleepers.set("b", 0.02)
    sleepers.alarm.clear(sleepers.rings["a"])
    sleepers.alarm.clear(sleepers.rings["c"])  # never set
    await wait_until(lambda: sleepers.names == ["b"])


async def test_time_that_has_passed_wakes_at_once() -> None:
    sleepers = Sleepers()
    sleepers.set("a", -NEVER)
    await wait_until(lambda: sleepers.names == ["a"])


async def test_many_sleepers_of_one_moment_need_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm, loop = Alarm(), asyncio.get_running_loop()
    timers: list[Any] = []
    call_later = loop.call_later

    def counted(*args: Any) -> Any:
        timers.append(args)
        return call_later(*args)

    monkeypatch.setattr(loop, "call_later", counted)
    when = time.monotonic() + NEVER
    for _ in range(1000):
        alarm.set(lambda: None, when, loop)
    assert len(timers) == 1


def test_alarm_follows_its_user_to_another_loop() -> None:
    sleepers = Sleepers()

    async def sleep(name: str) -> None:
        sleepers.set(name, 0.01)
        await wait_until(lambda: name in sleepers.names)

    async def leaves() -> None:
        sleepers.set("d", NEVER)

    asyncio.run(leaves())
    asyncio.run(sleep("a"))
    asyncio.run(sleep("b"))
    assert sleepers.names == ["a", "b"]

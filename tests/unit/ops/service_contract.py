"""What every Service of workers/contract/service.py keeps; each test of a Service runs RULES over its own factory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from workers.contract.service import Service

Make = Callable[[], Service]
Rule = Callable[[Make], Awaitable[None]]
#: Seconds after which a call that should return counts as hanging.
PATIENCE_S = 20.0


def soon() -> float:
    """A deadline for `stop` that leaves it all the time it needs."""
    return time.monotonic() + PATIENCE_S / 2


async def stop_before_start_is_legal(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.stop(by=soon())
        await service.wait()


async def stop_again_is_legal(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.start()
        await service.stop(by=soon())
        await service.stop(by=soon())


async def stops_at_the_same_time_both_return(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.start()
        await asyncio.gather(service.stop(by=soon()), service.stop(by=soon()))
    assert not service.health().ok


async def stop_with_no_time_left_returns(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.start()
        await service.stop(by=time.monotonic() - 1.0)
        await service.wait()


async def start_again_is_refused_and_harms_nothing(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.start()
        with pytest.raises(RuntimeError):
            await service.start()
        assert service.health().ok
        await service.stop(by=soon())


async def start_after_stop_is_refused(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.stop(by=soon())
        with pytest.raises(RuntimeError):
            await service.start()
    assert not service.health().ok


async def wait_returns_only_after_stop(make: Make) -> None:
    service = make()
    async with asyncio.timeout(PATIENCE_S):
        await service.start()
        waiting = asyncio.create_task(service.wait())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        await service.stop(by=soon())
        await waiting


async def health_follows_the_life_of_the_service(make: Make) -> None:
    service = make()
    seen = [service.health()]
    async with asyncio.timeout(PATIENCE_S):
        await service.start()
        seen.append(service.health())
        await service.stop(by=soon())
        seen.append(service.health())
    assert [health.ok for health in seen] == [False, True, False]
    assert all(health.detail for health in seen)


RULES: tuple[Rule, ...] = (
    stop_before_start_is_legal,
    stop_again_is_legal,
    stops_at_the_same_time_both_return,
    stop_with_no_time_left_returns,
    start_again_is_refused_and_harms_nothing,
    start_after_stop_is_refused,
    wait_returns_only_after_stop,
    health_follows_the_life_of_the_service,
)


def name(rule: Rule) -> str:
    """The id of a rule in a parametrized test."""
    return getattr(rule, "__name__", repr(rule))

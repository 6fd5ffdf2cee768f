"""The bounded pool: turns are kept in order, and no connection is lost to a caller that gives up."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import wait_until
from workers.broker.pool import Pool, Pools


class Wire:
    """A connection without a server; connecting takes a turn of the loop, and may fail."""

    def __init__(self, *, refuse: list[bool] | None = None, **options: Any) -> None:
        self.is_connected = False
        self.stale = False
        self.refuse = refuse or []

    async def connect(self) -> None:
        await asyncio.sleep(0)
        if self.refuse and self.refuse.pop():
            raise RedisConnectionError("refused")
        self.is_connected = True

    async def disconnect(self, nowait: bool = False, **_: Any) -> None:
        await asyncio.sleep(0)
        self.is_connected = self.stale = False

    async def can_read(self) -> bool:
        return False

    def should_reconnect(self) -> bool:
        return self.stale


def pool(size: int = 2, wait_s: float = 5.0, **options: Any) -> Pool:
    return Pool(max_connections=size, wait_s=wait_s, connection_class=cast(Any, Wire), **options)


async def test_connection_that_was_given_back_is_used_again() -> None:
    turns = pool()
    first = await turns.get_connection()
    await turns.release(first)
    assert await turns.get_connection() is first
    assert turns.open == 1


async def test_command_waits_its_turn_in_order() -> None:
    turns = pool(1)
    held = await turns.get_connection()
    served: list[int] = []

    async def use(number: int) -> None:
        connection = await turns.get_connection()
        served.append(number)
        await turns.release(connection)

    waiting = [asyncio.create_task(use(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert served == []
    await turns.release(held)
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3]
    assert turns.open == 1


async def test_command_that_waits_too_long_is_told_the_settings() -> None:
    turns = pool(1, wait_s=0.01)
    await turns.get_connection()
    with pytest.raises(
        RedisConnectionError, match=r"all 1 connections are in use for 0\.01 s \(redis\.max_connections"
    ):
        await turns.get_connection()


async def test_connection_that_can_not_be_made_gives_its_turn_back() -> None:
    turns = pool(1, refuse=[False, True, True])
    for _ in range(2):
        with pytest.raises(RedisConnectionError, match="refused"):
            await turns.get_connection()
    assert turns.open == 0
    await turns.get_connection()
    assert turns.open == 1


async def test_connection_to_the_wrong_server_is_closed_when_it_comes_back() -> None:
    turns = pool(1)
    connection = await turns.get_connection()
    cast(Wire, connection).stale = True
    await turns.release(connection)
    assert turns.open == 0
    assert await turns.get_connection() is connection
    assert turns.open == 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans()), min_size=1, max_size=25), st.integers(1, 4)
)
def test_no_connection_is_lost_whenever_its_user_is_cancelled(plan: list[tuple[int, int, bool]], size: int) -> None:
    async def run() -> None:
        turns = pool(size)
        in_use = most = 0

        async def use(rounds: int, stale: bool) -> None:
            nonlocal in_use, most
            connection: AbstractConnection = await turns.get_connection()
            in_use += 1
            most = max(most, in_use)
            try:
                for _ in range(rounds):
                    await asyncio.sleep(0)
            finally:
                in_use -= 1
                cast(Wire, connection).stale = stale
                await turns.release(connection)

        async def cancel(task: asyncio.Task[None], after: int) -> None:
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()

        tasks = [(asyncio.create_task(use(rounds, stale)), after) for rounds, after, stale in plan]
        await asyncio.gather(*(cancel(task, after) for task, after in tasks))
        await asyncio.wait({task for task, _ in tasks})
        assert most <= size
        free = [await asyncio.wait_for(turns.get_connection(), 1) for _ in range(size)]
        assert len(set(free)) == size

    asyncio.run(run())


async def test_open_connections_of_all_pools_are_counted_until_their_pool_is_gone() -> None:
    pools = Pools()
    first, second = pools.add(pool()), pools.add(pool())
    kept = [await first.get_connection(), await first.get_connection(), await second.get_connection()]
    assert pools.open == 3
    await first.release(kept[0])
    assert pools.open == 3  # idle, and still open
    await kept[1].disconnect()
    assert pools.open == 2
    del first, kept

    def collected() -> bool:
        gc.collect()
        return pools.open == 1

    await wait_until(collected)
    assert second.open == 1

"""The proxy that other tests rely on: what it passes, and that each fault does what it is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.conftest import wait_until
from tests.fault_plan import POINTS, Point, named
from tests.faults import FaultProxy
from tests.wire import Messages, WireError, end_of, read_request, script_names

BROKEN = (RedisConnectionError, OSError)


@pytest.fixture
async def through(proxy: FaultProxy) -> AsyncIterator[Redis]:
    """A client that never sends twice by itself."""
    client = Redis.from_url(
        proxy.url, decode_responses=True, protocol=2, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)
    )
    yield client
    await client.aclose()


async def becomes(read: Callable[[], Any], value: Any) -> None:
    """Wait until a read gives this value."""

    async def there() -> bool:
        return bool(await read() == value)

    condition: Callable[[], bool | Awaitable[bool]] = there
    await wait_until(condition)


# --------------------------------------------------------------------- the wire


@pytest.mark.parametrize(
    "value",
    [
        b"+OK\r\n",
        b":-7\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
    ],
)
def test_value_ends_where_its_last_byte_is(value: bytes) -> None:
    assert end_of(value + b"+next\r\n") == len(value)
    assert [end_of(value[:cut]) for cut in range(len(value))] == [None] * len(value)


@pytest.mark.parametrize("noise", [b"HTTP/1.1 200\r\n", b"$many\r\n", b"*--1\r\n"])
def test_what_is_not_resp_is_refused(noise: bytes) -> None:
    with pytest.raises(WireError, match="not RESP2"):
        end_of(noise)


def test_messages_come_whole_however_they_are_cut() -> None:
    stream = b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    messages = Messages()
    got = [message for byte in stream for message in messages.feed(bytes([byte]))]
    assert b"".join(got) == stream and len(got) == 2


def test_script_is_named() -> None:
    sha = next(sha for sha, name in script_names().items() if name == "moveToFinished")
    request = read_request(1, b"*3\r\n$7\r\nevalsha\r\n$40\r\n%s\r\n$1\r\n0\r\n" % sha.encode())
    assert request.name == "moveToFinished"
    assert named("moveToFinished", "0")(request) and not named("moveToFinished", "1")(request)


# ---------------------------------------------------------------------- passing


async def test_everything_passes_unchanged(proxy: FaultProxy, through: Redis, redis: Redis, prefix: str) -> None:
    large = "é" * 500_000
    await through.set(f"{prefix}:large", large)
    assert await redis.get(f"{prefix}:large") == await through.get(f"{prefix}:large") == large
    async with through.pipeline(transaction=False) as pipeline:
        for number in range(500):
            pipeline.rpush(f"{prefix}:list", number)
        pipeline.lrange(f"{prefix}:list", 0, -1)
        assert (await pipeline.execute())[-1] == [str(number) for number in range(500)]
    assert proxy.passed("RPUSH", f"{prefix}:list") == 500
    assert proxy.passed("RPUSH", "7") == 1


async def test_each_connection_is_known_by_what_it_asked(proxy: FaultProxy, through: Redis) -> None:
    waiting: asyncio.Future[Any] = asyncio.ensure_future(through.blpop(["nothing"], 0.1))
    await wait_until(lambda: proxy.passed("BLPOP"))
    await through.ping()
    assert proxy.link_of(named("BLPOP")) is not proxy.link_of(named("PING"))
    assert len(proxy.attempts) == len(proxy.links) == 2
    with pytest.raises(LookupError):
        proxy.link_of(named("GET"))
    await waiting


# ----------------------------------------------------------------------- breaks


@pytest.mark.parametrize("point", POINTS)
async def test_break_comes_at_its_point(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str, point: Point
) -> None:
    key = f"{prefix}:n"
    broken = proxy.break_at(point, named("INCRBY", key), nth=2)
    assert await through.incr(key) == 1
    with nullcontext() if point == "after_read" else pytest.raises(BROKEN):
        assert await through.incr(key) == 2
    assert broken.fired.is_set()
    applied = point != "before_write"
    await wait_until(lambda: proxy.passed("INCRBY", key) == 1 + applied)
    await becomes(lambda: redis.get(key), str(1 + applied))
    with suppress(*BROKEN):  # after_read: only now does the client feel it
        await through.ping()
    assert await through.incr(key) == 2 + applied  # on a new connection


async def test_nothing_that_follows_a_break_in_a_pipeline_gets_through(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str
) -> None:
    proxy.break_at("before_write", named("RPUSH", "3"))
    async with through.pipeline(transaction=False) as pipeline:
        for number in range(6):
            pipeline.rpush(f"{prefix}:list", number)
        with pytest.raises(BROKEN):
            await pipeline.execute()

    await becomes(lambda: redis.lrange(f"{prefix}:list", 0, -1), ["0", "1", "2"])


async def test_late_request_is_done_after_its_client_has_gone(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str
) -> None:
    late = proxy.break_at("late", named("INCRBY"))
    with pytest.raises(BROKEN):
        await through.incr(f"{prefix}:n")
    assert await redis.get(f"{prefix}:n") is None
    late.release()
    await late.delivered.wait()
    assert await redis.get(f"{prefix}:n") == "1"


async def test_late_request_of_a_connection_that_the_server_closed_is_never_done(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str
) -> None:
    client_id = await through.client_id()
    late = proxy.break_at("late", named("INCRBY"))
    with pytest.raises(BROKEN):
        await through.incr(f"{prefix}:n")
    assert await redis.client_kill_filter(_id=str(client_id)) == 1
    await late.delivered.wait()
    late.release()
    assert await through.get(f"{prefix}:n") is None


async def test_cut_breaks_within_a_message(proxy: FaultProxy, through: Redis, redis: Redis, prefix: str) -> None:
    key = f"{prefix}:k"
    await through.set(key, "value" * 100)
    proxy.cut_after(20, "down")  # after the length and some of the value
    with pytest.raises(BROKEN):
        await through.get(key)
    await through.ping()  # a new connection, and no cut any more
    proxy.cut_after(20, "up")
    with pytest.raises(BROKEN):
        await through.set(key, "changed")
    assert str(await redis.get(key)).startswith("value")


# -------------------------------------------------------------- standing faults


async def test_delay_holds_back_one_direction(proxy: FaultProxy, through: Redis, redis: Redis, prefix: str) -> None:
    await through.ping()
    proxy.delay_s["down"] = 5.0
    with pytest.raises(RedisTimeoutError):
        await through.set(f"{prefix}:k", 1)
    assert await redis.get(f"{prefix}:k") == "1"  # only the reply was slow
    proxy.heal()
    assert await through.ping()


async def test_black_hole_swallows_and_what_it_swallowed_stays_gone(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str
) -> None:
    await through.ping()
    proxy.black_hole()
    for _ in range(2):  # on the old connection and on a new one
        with pytest.raises(RedisTimeoutError):
            await through.set(f"{prefix}:k", 1)
    proxy.heal()
    assert await through.ping()
    assert await redis.get(f"{prefix}:k") is None
    assert proxy.passed("SET") == 0


@pytest.mark.parametrize(("direction", "arrives"), [("up", False), ("down", True)])
async def test_half_open_connection_still_works_the_other_way(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str, direction: str, arrives: bool
) -> None:
    await through.ping()
    proxy.link_of(named("PING")).half_open("up" if direction == "up" else "down")
    with pytest.raises(RedisTimeoutError):
        await through.set(f"{prefix}:k", 1)
    assert (await redis.get(f"{prefix}:k") == "1") is arrives
    assert await through.ping()  # another connection is none the worse


async def test_frozen_requests_arrive_when_it_thaws(
    proxy: FaultProxy, through: Redis, redis: Redis, prefix: str
) -> None:
    await through.ping()
    proxy.freeze("up")
    with pytest.raises(RedisTimeoutError):
        await through.incr(f"{prefix}:n")
    assert await redis.get(f"{prefix}:n") is None
    proxy.heal()
    await becomes(lambda: redis.get(f"{prefix}:n"), "1")


async def test_refused_connections_are_counted_and_end_at_once(proxy: FaultProxy, through: Redis) -> None:
    await through.ping()
    before = len(proxy.attempts)
    proxy.refuse()
    for _ in range(3):
        with pytest.raises(BROKEN):
            await through.ping()
    assert len(proxy.attempts) - before >= 2  # the first may still have found the old connection
    proxy.heal()
    assert await through.ping()


async def test_reset_breaks_a_waiting_request(proxy: FaultProxy, through: Redis) -> None:
    waiting: asyncio.Future[Any] = asyncio.ensure_future(through.blpop(["nothing"], 0))
    await wait_until(lambda: proxy.passed("BLPOP"))
    proxy.reset()
    with pytest.raises(BROKEN):
        await waiting


async def test_stopped_proxy_leaves_nothing_behind(proxy: FaultProxy, through: Redis) -> None:
    await through.ping()
    await proxy.stop()
    await proxy.stop()
    assert not proxy.links
    with pytest.raises((RedisError, OSError)):
        await through.ping()


async def test_server_that_is_away_resets_the_client() -> None:
    async with FaultProxy(1) as proxy:  # nobody listens on port 1
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_noise_is_told_not_passed(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert "not RESP2" in proxy.problems.pop()

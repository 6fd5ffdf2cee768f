"""What happens in the queues is told to everybody who listens, once and in order, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, Server, wait_until
from tests.faults import FaultProxy
from workers.broker.endpoint import Endpoint
from workers.broker.event_stream import MAX_READ, QueueEvent
from workers.queue_service import feed as feeds
from workers.queue_service.errors import InvalidRequestError, QueueUnavailableError, RefusedError
from workers.queue_service.feed import Feed
from workers.queue_service.subscription import MAX_WAITING, Subscription

MakeFeed = Callable[..., Feed]


@pytest.fixture
async def make_feed(endpoint: Endpoint) -> AsyncIterator[MakeFeed]:
    made: list[tuple[Feed, Redis]] = []
    default = endpoint

    def make(where: Endpoint | None = None) -> Feed:
        where = where or default
        client = where.commands()
        made.append((Feed(where.listening, client, where.prefix, reconnect=where.reconnect), client))
        return made[-1][0]

    yield make
    for feed, client in made:
        await feed.close()
        await client.aclose()


@pytest.fixture
def feed(make_feed: MakeFeed) -> Feed:
    return make_feed()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def tell(redis: Redis, prefix: str, numbers: Any, queue: str = "q") -> list[str]:
    """Events of our own in a queue's stream; their ids."""
    pipe: Any = redis.pipeline(transaction=False)
    for number in numbers:
        pipe.xadd(f"{prefix}:{queue}:events", {"event": "told", "jobId": str(number)})
    return [str(each) for each in await pipe.execute()]


async def take(events: Subscription, count: int) -> list[QueueEvent]:
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(count)]


def jobs(events: list[QueueEvent]) -> list[int]:
    return [int(event.job_id or -1) for event in events]


async def test_life_of_a_job_is_heard(feed: Feed, queue: Any, make_worker: MakeWorker) -> None:
    async with feed.listen(["q"]) as events:
        await events.start()
        job = await queue.add("n", {})
        await make_worker()
        found: list[QueueEvent] = []
        while not found or found[-1].event != "completed":
            found += await take(events, 1)
    assert [event.event for event in found] == ["added", "waiting", "active", "completed"]
    assert {event.job_id for event in found} == {job.id} and {event.queue for event in found} == {"q"}
    assert found[-1].fields == {"returnvalue": {"id": job.id}, "prev": "active"}
    ids = [event.id for event in found]
    assert ids == sorted(ids) and all(event.at_ms for event in found)


async def test_only_what_comes_after_is_heard_and_only_of_the_queues_asked_for(
    feed: Feed, redis: Redis, prefix: str
) -> None:
    await tell(redis, prefix, range(5))
    async with feed.listen(["q", "r"]) as both, feed.listen(["r"]) as one:
        await both.start()
        await one.start()
        await tell(redis, prefix, [10])
        await tell(redis, prefix, [20], "r")
        await tell(redis, prefix, [30], "s")
        await tell(redis, prefix, [11])
        assert sorted(jobs(await take(both, 3))) == [10, 11, 20]
        assert jobs(await take(one, 1)) == [20]


async def test_listener_goes_on_where_it_was(feed: Feed, redis: Redis, prefix: str) -> None:
    ids = await tell(redis, prefix, range(3 * MAX_READ))
    others = await tell(redis, prefix, range(5), "r")
    async with feed.listen(["q", "r"], {"q": ids[9], "r": "0"}) as events:
        found = await take(events, 3 * MAX_READ - 10 + 5)
        assert jobs([event for event in found if event.queue == "q"]) == [*range(10, 3 * MAX_READ)]
        assert [event.id for event in found if event.queue == "r"] == others
        await tell(redis, prefix, [777])
        assert jobs(await take(events, 1)) == [777]
    async with feed.listen(["q"], {"q": ids[-1]}) as again:
        assert jobs(await take(again, 1)) == [777]


async def test_listeners_that_come_while_others_listen_miss_nothing_and_hear_nothing_twice(
    feed: Feed, redis: Redis, prefix: str
) -> None:
    """Each joins at another moment, some with a past, while events come without a pause."""
    total = 3000
    first = await tell(redis, prefix, range(100))

    async def produce() -> None:
        for start in range(100, total, 20):
            await tell(redis, prefix, range(start, start + 20))

    async def listen(delay: int, after: int) -> list[int]:
        for _ in range(delay):
            await asyncio.sleep(0)
        async with feed.listen(["q"], {"q": first[after]}) as events:
            return jobs(await take(events, min(total - after - 1, 600)))

    producing = asyncio.create_task(produce())
    found = await asyncio.gather(*(listen(7 * number, number) for number in range(30)))
    await producing
    for after, heard in enumerate(found):
        assert heard == [*range(after + 1, after + 601)]
    assert feed.listeners == 0


async def test_event_id_that_is_gone_is_a_gap(feed: Feed, redis: Redis, prefix: str) -> None:
    ids = await tell(redis, prefix, range(10))
    await redis.xtrim(f"{prefix}:q:events", minid=ids[5], approximate=False)
    async with feed.listen(["q"], {"q": ids[2]}) as events:
        gap, *rest = await take(events, 6)
        assert (gap.event, gap.id, gap.fields) == ("gap", "", {"after": ids[2]})
        assert jobs(rest) == [*range(5, 10)]
    async with feed.listen(["q"], {"q": ids[6]}) as events:
        assert jobs(await take(events, 3)) == [7, 8, 9]


async def test_slow_listener_loses_the_oldest_and_is_told_how_many(feed: Feed, redis: Redis, prefix: str) -> None:
    async with feed.listen(["q"]) as slow, feed.listen(["q"]) as fast:
        await slow.start()
        await fast.start()
        heard: list[int] = []
        for start in range(0, MAX_WAITING + 500, 100):
            await tell(redis, prefix, range(start, start + 100))
            heard += jobs(await take(fast, 100))
        assert heard == [*range(MAX_WAITING + 500)] and fast.dropped == 0
        assert slow.dropped == 500
        told, *rest = await take(slow, MAX_WAITING + 1)
        assert (told.event, told.fields) == ("dropped", {"count": 500})
        assert jobs(rest) == [*range(500, MAX_WAITING + 500)]


async def test_one_connection_serves_all_and_none_is_left(
    make_feed: MakeFeed, make_server: Callable[..., Server]
) -> None:
    server = make_server()
    redis: Redis = Redis.from_url(server.url, decode_responses=True, protocol=2)
    feed = make_feed(Endpoint(url=server.url))

    async def readers() -> int:
        return sum(client["cmd"] == "xread" for client in await redis.client_list())

    listeners = [feed.listen([f"q{number % 7}"]) for number in range(50)]
    for listener in listeners:
        await listener.start()
    for number in range(7):
        await tell(redis, "bull", [number], f"q{number}")
    heard = [await take(listener, 1) for listener in listeners]
    assert [int(events[0].job_id or -1) for events in heard] == [number % 7 for number in range(50)]
    assert await readers() == 1
    for listener in listeners:
        listener.end()
        listener.end()

    async def nobody() -> Any:
        return await readers() == 0

    await wait_until(nobody)
    await redis.aclose()


async def test_events_go_on_after_an_outage(make_feed: MakeFeed, make_server: Callable[..., Server]) -> None:
    server = make_server("--appendonly", "yes", "--appendfsync", "always")
    redis: Redis = Redis.from_url(server.url, decode_responses=True, protocol=2)
    feed = make_feed(Endpoint(url=server.url))
    async with feed.listen(["q"]) as events:
        await events.start()
        await tell(redis, "bull", [1])
        assert jobs(await take(events, 1)) == [1]
        await redis.aclose()
        server.stop()
        waiting = asyncio.create_task(take(events, 2))
        with pytest.raises(QueueUnavailableError):
            async with feed.listen(["other"]) as refused:
                await anext(refused)
        server.start()
        again: Redis = Redis.from_url(server.url, decode_responses=True, protocol=2)
        await tell(again, "bull", [2, 3])
        assert jobs(await waiting) == [2, 3]
        await again.aclose()


async def test_events_go_on_after_broken_connections(
    make_feed: MakeFeed, valkey: Server, redis: Redis, prefix: str
) -> None:
    async with FaultProxy(valkey.port) as proxy:
        feed = make_feed(Endpoint(url=proxy.url, prefix=prefix))
        async with feed.listen(["q"]) as events:
            await events.start()
            for number in range(5):
                await tell(redis, prefix, [2 * number])
                assert jobs(await take(events, 1)) == [2 * number]
                proxy.reset()
                await tell(redis, prefix, [2 * number + 1])
                assert jobs(await take(events, 1)) == [2 * number + 1]


async def test_listener_that_is_cancelled_while_it_waits_loses_nothing(feed: Feed, redis: Redis, prefix: str) -> None:
    async with feed.listen(["q"]) as events:
        await events.start()
        for number in range(20):
            waiting = asyncio.create_task(anext(events))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            await tell(redis, prefix, [number])
            if not waiting.cancelled():
                assert waiting.result().job_id == str(number)
                continue
            assert jobs(await take(events, 1)) == [number]


async def test_stream_of_another_type_is_told_and_hurts_nobody_else(feed: Feed, redis: Redis, prefix: str) -> None:
    await redis.set(f"{prefix}:bad:events", "text")
    async with feed.listen(["bad"]) as bad, feed.listen(["q"]) as good:
        await good.start()
        await bad.start()
        await tell(redis, prefix, [1])
        assert jobs(await take(good, 1)) == [1]
        (told,) = await take(bad, 1)
        assert told.event == "unreadable" and "WRONGTYPE" in told.fields["error"]
        await tell(redis, prefix, [2])
        assert jobs(await take(good, 1)) == [2]


async def test_listeners_are_bounded_and_refused_with_words(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_LISTENERS", 2)
    first, second = feed.listen(["q"]), feed.listen(["q"])
    with pytest.raises(RefusedError, match="2 listen already"):
        feed.listen(["q"])
    first.end()
    third = feed.listen(["q"])
    await feed.close()
    await feed.close()
    for listener in (second, third):
        assert [event async for event in listener] == []
    with pytest.raises(RefusedError, match="closed"):
        feed.listen(["q"])


@pytest.mark.parametrize(
    ("queues", "after", "field"),
    [
        ([], None, "queues"),
        ([f"q{number}" for number in range(201)], None, "queues"),
        (["q"], {"q": "yesterday"}, "after"),
        (["q"], {"q": "1-1-1"}, "after"),
        (["q"], {"q": ""}, "after"),
    ],
)
async def test_malformed_wish_is_refused(feed: Feed, queues: list[str], after: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        feed.listen(queues, after)
    assert refused.value.field == field
    assert feed.listeners == 0


async def test_now_is_a_place_to_begin(feed: Feed, redis: Redis, prefix: str) -> None:
    await tell(redis, prefix, range(3))
    async with feed.listen(["q"], {"q": "$", "unasked": "nonsense"}) as events:
        await events.start()
        await tell(redis, prefix, [9])
        assert jobs(await take(events, 1)) == [9]

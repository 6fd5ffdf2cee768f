"""Adding while Redis is away, slow, restarted or out of memory, and what hostile tasks come to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.conftest import Server
from tests.fault_plan import named
from tests.faults import FaultProxy
from tests.integration.queue_service.adding_rig import adding, mail, sms, stored
from workers.broker.endpoint import Endpoint
from workers.queue_service.add_options import AddOptions, Deduplication
from workers.queue_service.adding import Adding
from workers.queue_service.errors import (
    BrokenOffError,
    InvalidRequestError,
    QueueServiceError,
    QueueUnavailableError,
    RefusedError,
    UnknownQueueError,
)
from workers.queue_service.flow import FlowNode

FLOW = FlowNode(task=sms("p"), children=[FlowNode(task=mail("k"))])


@pytest.fixture
async def proxy(valkey: Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(valkey.port) as proxy:
        yield proxy
    assert not proxy.problems


@pytest.fixture
async def service(proxy: FaultProxy, prefix: str) -> AsyncIterator[Adding]:
    """Through the proxy, with a short time-out."""
    async with adding(Endpoint(url=proxy.url, prefix=prefix, command_timeout_s=0.5, connect_timeout_s=0.5)) as service:
        yield service


async def each_way(service: Adding) -> list[QueueServiceError]:
    """What adding says, in each of its forms."""
    found = []
    for asked in (service.add(mail("a")), service.add_bulk([mail("b"), mail("c")]), service.flow(FLOW)):
        with pytest.raises(QueueServiceError) as failed:
            await asked
        found.append(failed.value)
    return found


# --------------------------------------------------------------------- no Redis


async def test_redis_that_is_down_is_told_and_nothing_was_added() -> None:
    async with adding(Endpoint(url="redis://127.0.0.1:1", connect_timeout_s=0.5)) as service:
        one, many, flow = await each_way(service)
    for error in (one, many, flow):
        assert isinstance(error, QueueUnavailableError)
        assert error.retry_after_s
    assert "Redis can't be reached, nothing was added" in str(one)
    assert "Redis can't be reached, nothing was added" in str(flow)
    assert isinstance(many, BrokenOffError) and many.added == (None, None)
    assert str(many).startswith("0 of 2 jobs are known to be there, 2 were not added; add all again")


async def test_redis_that_answers_nothing_is_given_up(service: Adding, proxy: FaultProxy) -> None:
    proxy.black_hole()
    for error in await each_way(service):
        assert isinstance(error, QueueUnavailableError)


async def test_redis_that_is_slow_is_waited_for_up_to_the_time_out(service: Adding, proxy: FaultProxy) -> None:
    proxy.delay_s["down"] = 0.1
    assert not (await service.add(mail("a"))).duplicate
    proxy.delay_s["down"] = 5.0
    with pytest.raises(QueueUnavailableError, match="it is not known whether it was added"):
        await service.add(mail("b"))


# ------------------------------------------------------------------ lost replies


async def test_lost_reply_is_told_and_with_an_own_id_adding_again_is_safe(
    service: Adding, proxy: FaultProxy, redis: Redis, prefix: str
) -> None:
    await service.add(sms("warm"))
    proxy.drop_reply(named("addJobs"))
    with pytest.raises(QueueUnavailableError) as lost:
        await service.add(mail("a"))
    assert "not known whether it was added; adding it again is safe, since its id is its own" in str(lost.value)
    again = await service.add(mail("a"))
    assert (again.duplicate, again.state) == (True, "waiting")
    assert await redis.llen(f"{prefix}:email-send:wait") == 1


async def test_lost_reply_without_an_own_id_is_told_as_doubtful(service: Adding, proxy: FaultProxy) -> None:
    await service.add(sms("warm"))
    proxy.drop_reply(named("addJobs"))
    with pytest.raises(QueueUnavailableError, match="not known whether it was added; it may be there, under an id of"):
        await service.add(mail(""))


async def test_flow_whose_reply_was_lost_may_be_added_again(
    service: Adding, proxy: FaultProxy, redis: Redis, prefix: str
) -> None:
    await service.add(sms("warm"))
    proxy.drop_reply(named("addJobs"))
    with pytest.raises(QueueUnavailableError, match="adding it again is safe"):
        await service.flow(FLOW)
    assert (await service.flow(FLOW)).added.duplicate
    assert await redis.smembers(f"{prefix}:sms-message:p:dependencies") == {f"{prefix}:email-send:k"}


@pytest.mark.parametrize("point", ["before_write", "before_read"])
async def test_many_that_broke_off_are_told_and_added_again_without_a_second_one(
    service: Adding, proxy: FaultProxy, redis: Redis, prefix: str, point: Any
) -> None:
    await service.add(sms("warm"))
    items = [mail(f"m{n}") for n in range(1000)]
    proxy.break_at(point, named("addJobs"), nth=3)
    with pytest.raises(BrokenOffError) as broken:
        await service.add_bulk(items)
    known = [each.job_id for each in broken.value.added if each is not None]
    assert known == [f"m{n}" for n in range(400)]
    assert len(broken.value.added) == 1000
    said = (
        "400 of 1,000 jobs are known to be there, of 200 it is not known, 400 were not added; add all again: each has"
    )
    assert str(broken.value).startswith(said)
    there = await redis.llen(f"{prefix}:email-send:wait")
    assert there == (400 if point == "before_write" else 600)
    added = await service.add_bulk(items)
    assert sum(each.duplicate for each in added) == there
    waiting: Any = await redis.lrange(f"{prefix}:email-send:wait", 0, -1)
    assert waiting[::-1] == [f"m{n}" for n in range(1000)]


async def test_of_many_without_ids_it_is_said_that_they_may_come_twice(service: Adding, proxy: FaultProxy) -> None:
    await service.add(sms("warm"))
    proxy.drop_reply(named("addJobs"))
    with pytest.raises(BrokenOffError, match="1 have no id of their own and may come twice"):
        await service.add_bulk([mail("a"), mail("")])


async def test_cancelled_caller_leaves_the_connection_to_others(service: Adding, proxy: FaultProxy) -> None:
    await service.add(sms("warm"))
    proxy.freeze("down")
    asked = asyncio.create_task(service.add_bulk([mail(f"m{n}") for n in range(1000)]))
    await asyncio.sleep(0.05)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    proxy.heal()
    assert (await service.add(sms("after"))).job_id == "after"


# ------------------------------------------------------------- a server's moods


async def test_server_that_lost_its_scripts_gets_them_again(service: Adding, redis: Redis) -> None:
    await service.add(mail("a"))
    await redis.script_flush()
    assert not (await service.add(mail("b"))).duplicate


async def test_full_server_is_told_and_nothing_is_half_done(make_server: Callable[..., Server]) -> None:
    server = make_server("--appendonly", "no")
    client = Redis.from_url(server.url, decode_responses=True)
    async with adding(Endpoint(url=server.url)) as service:
        await service.add(mail("a"))
        await client.config_set("maxmemory", "1mb")
        one, many, flow = await each_way_full(service)
        await client.config_set("maxmemory", "0")
        assert [key async for key in client.scan_iter("bull:email-send:*")] == await keys_of_one(client)
        assert not (await service.add(mail("b"))).duplicate
    await client.aclose()
    for error in (one, many, flow):
        assert isinstance(error, QueueUnavailableError), error
        assert "OOM" in str(error) or "memory" in str(error)


async def each_way_full(service: Adding) -> list[QueueServiceError]:
    found = []
    for asked in (service.add(mail("b")), service.add_bulk([mail("c"), mail("d")]), service.flow(FLOW)):
        with pytest.raises(QueueServiceError) as failed:
            await asked
        found.append(failed.value)
    return found


async def keys_of_one(client: Redis) -> list[str]:
    """Those that adding one job makes, in the server's order."""
    wanted = {f"bull:email-send:{name}" for name in ("a", "meta", "id", "wait", "events", "marker")}
    found = [key async for key in client.scan_iter("bull:email-send:*")]
    assert set(found) == wanted
    return found


async def test_queue_whose_key_is_another_thing_is_refused(service: Adding, redis: Redis, prefix: str) -> None:
    await redis.set(f"{prefix}:email-send:wait", "a text")
    with pytest.raises(RefusedError, match=r"queue email-send: Redis could not add it: .*WRONGTYPE"):
        await service.add(mail("a"))
    with pytest.raises(BrokenOffError, match=r"1 of 2 jobs are known to be there, 1 were not added.*WRONGTYPE"):
        await service.add_bulk([sms("s"), mail("b")])


# -------------------------------------------------------------------- hostile tasks


async def test_ten_megabytes_are_refused_by_the_limit_and_taken_where_it_allows_them(
    endpoint: Endpoint, redis: Redis, prefix: str
) -> None:
    big = mail("big", text="é" * 5_000_000)
    async with adding(endpoint) as service:
        with pytest.raises(InvalidRequestError, match=r"data: 10,000,\d+ bytes, more than the 4,194,304"):
            await service.add_bulk([mail("a"), big])
        assert not await redis.exists(f"{prefix}:email-send:a")
    async with adding(endpoint, email_send={"max_data": "20MB"}) as service:
        await service.add_bulk([mail("a"), big, mail("z")])
        assert (await stored(redis, f"{prefix}:email-send:big"))["data"] == big
        assert await redis.llen(f"{prefix}:email-send:wait") == 3


@pytest.mark.parametrize(
    "name",
    [
        "a\x1b[31mb",
        "a\nb",
        "a:b:c",
        "…",
        "\u202eabc",
        "'; DROP",
        "{x}",
        "*",
        "__proto__",
        "%s%n",
        "\x00",
        "a b",
        "0",
        "-1",
    ],
)
async def test_hostile_ids_are_stored_as_they_are(service: Adding, redis: Redis, prefix: str, name: str) -> None:
    added = await service.add(mail(name))
    assert added.task_id == name
    assert (await stored(redis, f"{prefix}:email-send:{added.job_id}"))["data"]["id"] == name
    assert (await service.add(mail(name))).duplicate


@pytest.mark.parametrize("name", ["d:e", "\x00", "\x1b[2J", "é" * 200, "{x}"])
async def test_hostile_deduplication_ids_are_keys_of_their_own(
    service: Adding, redis: Redis, prefix: str, name: str
) -> None:
    options = AddOptions(deduplication=Deduplication(id=name))
    await service.add(mail("a"), options)
    assert (await service.add(mail("b"), options)).job_id == "a"
    assert await redis.get(f"{prefix}:email-send:de:{name}") == "a"


@pytest.mark.parametrize("queue", ["email-send:wait", "../x", "*", "", "x" * 10_000, "\x1b[31m"])
async def test_hostile_queues_are_unknown(service: Adding, queue: str) -> None:
    with pytest.raises(UnknownQueueError) as refused:
        await service.add(mail("a"), AddOptions(queue=queue))
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()


@pytest.mark.parametrize("task_type", ["\x1b[31m", "x" * 100_000, "email-send\n", "", "email-send "])
async def test_hostile_types_are_named_in_a_safe_length(service: Adding, task_type: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await service.add_bulk([mail("a", type=task_type)])
    assert len(str(refused.value)) < 400 and str(refused.value).isprintable()


async def test_numbers_that_javascript_has_not_go_out_as_they_are(service: Adding, redis: Redis, prefix: str) -> None:
    await service.add(mail("a", huge=2**70, tiny=-1e-300))
    row: Any = await redis.hget(f"{prefix}:email-send:a", "data")
    assert json.loads(row)["huge"] == 2**70


async def test_options_that_lua_would_break_on_are_refused_before(service: Adding, redis: Redis, prefix: str) -> None:
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    for raw in ({"x": deep}, {"x": float("inf")}, {"x": {1: 2}}, {"delay": 1e300}):
        with pytest.raises(InvalidRequestError):
            await service.add(mail("a"), AddOptions(raw=raw))
    await service.add(mail("a"), AddOptions(raw={"x": [[[[[[[1]]]]]]], "empty": {}, "none": [], "y": {"a": None}}))
    assert (await stored(redis, f"{prefix}:email-send:a"))["opts"]["x"] == [[[[[[[1]]]]]]]

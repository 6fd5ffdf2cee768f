"""Jobs are listed page by page: each once, whatever others do meanwhile, and at a bounded cost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.seeded import seed
from workers.broker.endpoint import Endpoint
from workers.broker.job_reader import MANY_BYTES, REPLY_BYTES
from workers.broker.job_view import JobView
from workers.queue_service import job_pages
from workers.queue_service.errors import InvalidRequestError, UnknownQueueError
from workers.queue_service.filter import ALL, STATES, JobFilter, parse
from workers.queue_service.job_pages import LOOK_THROUGH, SHOWN_BYTES
from workers.queue_service.looking import Looking

NOW = 1_800_000_000_000
Ids = list[int]
Between = Callable[[], Awaitable[object]]


@pytest.fixture
async def looking(endpoint: Endpoint) -> AsyncIterator[Looking]:
    client = endpoint.commands()
    looking = Looking(endpoint, client, ["q"], timeout_s=20, clock=lambda: NOW)
    looking._pages._clock = lambda: 0.0  # however slow the machine is, no look takes too long
    yield looking
    await looking.close()
    await client.aclose()


async def everything(
    looking: Looking, wanted: JobFilter = ALL, *, limit: int = 100, between: Between | None = None, **options: Any
) -> list[JobView]:
    """All pages, one after the other."""
    found: list[JobView] = []
    cursor = None
    while True:
        page = await looking.jobs("q", wanted, cursor=cursor, limit=limit, **options)
        assert len(page.items) <= limit and page.looked_at <= LOOK_THROUGH
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found
        if between is not None:
            await between()


def numbers(views: list[JobView]) -> Ids:
    return [int(view.id) for view in views]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_each_job_of_a_state_comes_once_and_in_order(
    looking: Looking, redis: Redis, prefix: str, state: str, order: Any
) -> None:
    await seed(redis, prefix, "q", state, 1234, now_ms=NOW - 5000)
    found = await everything(looking, parse(state=state), order=order)
    ids = numbers(found)
    assert sorted(ids) == list(range(1, 1235)) and {view.state for view in found} == {state}
    if state == "prioritized":
        assert ids == sorted(ids, key=lambda number: (number % 5, number), reverse=order == "newest")
    else:
        assert ids == sorted(ids, reverse=order == "newest")
    assert all(view.due_ms == NOW - 5000 + int(view.id) for view in found)


async def test_several_states_follow_each_other(looking: Looking, redis: Redis, prefix: str) -> None:
    for place, state in enumerate(STATES):
        await seed(redis, prefix, "q", state, 10, first=1 + place * 10, now_ms=NOW)
    found = await everything(looking, limit=7, order="oldest")
    assert sorted(numbers(found)) == list(range(1, 81))
    assert [view.state for view in found] == [state for state in STATES for _ in range(10)]
    some = await everything(looking, parse(state="failed,waiting"), limit=1000)
    assert [view.state for view in some] == ["waiting"] * 10 + ["failed"] * 10


@pytest.mark.parametrize("same", [False, True], ids=["scores", "one-score"])
@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_sorted_set_is_stable_while_its_jobs_come_and_go(
    looking: Looking, redis: Redis, prefix: str, order: Any, same: bool
) -> None:
    await seed(redis, prefix, "q", "completed", 1000, now_ms=NOW)
    key = f"{prefix}:q:completed"
    if same:  # places of one score are told apart by their ids alone
        await redis.zadd(key, {str(number): NOW for number in range(1, 1001)})
    turned = 0

    async def others_work() -> None:
        nonlocal turned
        turned += 1
        await redis.zrem(key, *seen_last, *(f"{number}" for number in range(turned, 1001, 97)))
        await redis.zadd(key, {f"new{turned}": NOW - 5, f"late{turned}": NOW + 5000})

    seen_last: list[str] = ["none"]
    found: list[str] = []
    stays = {str(number) for number in range(1, 1001)}
    cursor = None
    while True:
        page = await looking.jobs("q", parse(state="completed"), cursor=cursor, limit=50, order=order)
        found += [view.id for view in page.items]
        cursor = page.cursor
        if cursor is None:
            break
        seen_last = [view.id for view in page.items[-3:]]  # also those after which the next page begins
        before = {str(each) for each in await redis.zrange(key, 0, -1)}
        await others_work()
        gone = before - {str(each) for each in await redis.zrange(key, 0, -1)}
        stays -= gone - set(found)
    assert len(found) == len(set(found))
    assert stays - set(found) == set()


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_list_is_stable_while_workers_take_and_producers_add(
    looking: Looking, redis: Redis, prefix: str, order: Any
) -> None:
    await seed(redis, prefix, "q", "waiting", 1000, now_ms=NOW)
    key = f"{prefix}:q:wait"
    taken: set[int] = set()
    fresh = 1000

    async def others_work() -> None:
        nonlocal fresh
        taken.update([int(str(each)) for _ in range(20) if (each := await redis.rpop(key))])
        await seed(redis, prefix, "q", "waiting", 30, first=fresh + 1, now_ms=NOW)
        fresh += 30

    ids = numbers(await everything(looking, parse(state="waiting"), limit=50, order=order, between=others_work))
    assert set(range(1, 1001)) - taken <= set(ids)
    assert len(ids) == len(set(ids))


async def test_list_whose_shown_jobs_are_all_removed_is_shown_whole(
    looking: Looking, redis: Redis, prefix: str
) -> None:
    for order in ("newest", "oldest"):
        await seed(redis, prefix, "q", "waiting", 500, now_ms=NOW)
        found: Ids = []
        cursor = None
        while True:
            page = await looking.jobs("q", parse(state="waiting"), cursor=cursor, limit=50, order=order)
            found += numbers(list(page.items))
            for view in page.items:
                await redis.lrem(f"{prefix}:q:wait", 1, view.id)
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == list(range(1, 501))


async def test_jobs_that_are_gone_are_passed_over(looking: Looking, redis: Redis, prefix: str) -> None:
    await seed(redis, prefix, "q", "failed", 20, now_ms=NOW)
    await redis.delete(f"{prefix}:q:3", f"{prefix}:q:4")
    await redis.delete(f"{prefix}:q:5")
    await redis.set(f"{prefix}:q:5", "no hash")
    await redis.rpush(f"{prefix}:q:wait", "0:1700000000000")  # a marker of a BullMQ before 5
    found = await everything(looking, limit=6, order="oldest")
    assert numbers(found) == [1, 2, *range(5, 21)]
    (broken,) = [view for view in found if view.problems]
    assert broken.id == "5" and "WRONGTYPE" in broken.problems[0]


async def test_keys_of_another_type_have_no_jobs(looking: Looking, redis: Redis, prefix: str) -> None:
    await seed(redis, prefix, "q", "failed", 3, now_ms=NOW)
    await redis.set(f"{prefix}:q:wait", "text")
    await redis.rpush(f"{prefix}:q:completed", "1")
    assert numbers(await everything(looking, order="oldest")) == [1, 2, 3]


async def test_filter_finds_among_ten_thousand_and_looks_through_a_bounded_number(
    looking: Looking, redis: Redis, prefix: str
) -> None:
    await seed(redis, prefix, "q", "completed", 12_000, now_ms=NOW - 50_000)
    wanted = parse(state="completed", where=["data.userId=u77"])
    page = await looking.jobs("q", wanted, limit=5)
    assert numbers(list(page.items)) == [11_077, 10_077, 9077, 8077, 7077] and page.cursor is not None
    assert numbers(await everything(looking, wanted)) == [*range(11_077, 0, -1000)]
    assert numbers(await everything(looking, wanted, limit=1, order="oldest")) == [*range(77, 12_000, 1000)]
    nobody = parse(state="completed", where=["data.userId=nobody"])
    page = await looking.jobs("q", nobody)
    assert (page.items, page.looked_at) == ((), LOOK_THROUGH) and page.cursor is not None
    assert await everything(looking, nobody) == []


async def test_look_that_takes_long_goes_on_in_the_next_one(
    looking: Looking, redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seed(redis, prefix, "q", "completed", 3000, now_ms=NOW - 50_000)
    ticks = iter(range(100_000))
    monkeypatch.setattr(looking._pages, "_clock", lambda: next(ticks) * 0.4)  # three chunks take longer than it may
    wanted = parse(state="completed", where=["data.userId=u77"])
    page = await looking.jobs("q", wanted)
    assert page.cursor is not None and page.looked_at <= 2 * job_pages.CHUNK
    assert numbers(await everything(looking, wanted)) == [2077, 1077, 77]


async def test_age_leads_to_its_place_at_once(looking: Looking, redis: Redis, prefix: str) -> None:
    await seed(redis, prefix, "q", "failed", 10_000, now_ms=NOW - 10_000)  # number n ended 10,000 - n ms ago
    page = await looking.jobs("q", parse(state="failed", older=9.9), limit=1000)
    assert numbers(list(page.items)) == [*range(100, 0, -1)] and page.looked_at <= 100
    page = await looking.jobs("q", parse(state="failed", newer=0.05), limit=1000)
    assert numbers(list(page.items)) == [*range(10_000, 9949, -1)] and page.looked_at <= job_pages.CHUNK
    assert page.cursor is None
    page = await looking.jobs("q", parse(state="failed", newer=0.05), limit=1000, order="oldest")
    assert numbers(list(page.items)) == [*range(9950, 10_001)] and page.looked_at <= 60
    page = await looking.jobs("q", parse(state="failed", older=9.9), limit=1000, order="oldest")
    assert numbers(list(page.items)) == [*range(1, 101)] and page.cursor is None
    both = parse(state="failed", older=5, newer=5.01)
    assert numbers(await everything(looking, both)) == [*range(5000, 4989, -1)]


async def test_name_and_error_are_looked_for(looking: Looking, redis: Redis, prefix: str) -> None:
    await seed(redis, prefix, "q", "failed", 100, now_ms=NOW)
    await redis.hset(f"{prefix}:q:50", "name", "special")
    assert numbers(await everything(looking, parse(name="spec*"))) == [50]
    assert len(await everything(looking, parse(error="NO 3"))) == 14
    assert await everything(looking, parse(state="completed", error="no 3")) == []


async def test_large_data_are_shown_cut_and_read_piece_by_piece(looking: Looking, redis_url: str, prefix: str) -> None:
    queue: Any = Queue("q", {"connection": redis_url, "prefix": prefix})
    for size in (10, SHOWN_BYTES * 2, MANY_BYTES * 2):
        await queue.add("n", {"userId": "u1", "text": "x" * size})
    for _ in range(4):
        await queue.add("n", {"userId": "u1", "text": "y" * (REPLY_BYTES // 3)})
    await queue.close()
    found = await everything(looking, order="oldest")
    assert [view.cut.get("data", 0) for view in found] == [
        *(0, SHOWN_BYTES * 2 + 25, MANY_BYTES * 2 + 25),
        *[REPLY_BYTES // 3 + 25] * 4,
    ]
    assert found[0].data["userId"] == "u1"
    for view in found[1:]:
        assert view.data.startswith('{"userId"') and len(view.data) <= SHOWN_BYTES
    assert len(json.dumps([view.json() for view in found])) < 10 * SHOWN_BYTES
    # looked into, though not shown whole; what is larger than that is not looked into
    assert numbers(await everything(looking, parse(where=["data.userId=u1"]), order="oldest")) == [1, 2]


async def test_hostile_ids_are_data(looking: Looking, redis: Redis, prefix: str) -> None:
    hostile = ["a:b:c", "\x1b[31m", "<script>", "*", "é😀", '"', "$(id)", "a" * 3000, "x\ny", "", "{tag}"]
    for place, job_id in enumerate(hostile):
        await redis.hset(f"{prefix}:q:{job_id}", mapping={"name": job_id, "data": "{}", "timestamp": NOW})
        await redis.lpush(f"{prefix}:q:wait", job_id)
        await redis.zadd(f"{prefix}:q:failed", {job_id: place})
    for order in ("newest", "oldest"):
        found = await everything(looking, limit=1, order=order)
        assert sorted(view.id for view in found) == sorted(hostile * 2)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"order": "random"}, "order"),
        ({"cursor": "nonsense"}, "cursor"),
    ],
)
async def test_malformed_request_is_refused_by_name(looking: Looking, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await looking.jobs("q", **given)
    assert refused.value.field == field


async def test_cursor_of_another_filter_is_refused(looking: Looking, redis: Redis, prefix: str) -> None:
    await seed(redis, prefix, "q", "failed", 10, now_ms=NOW)
    cursor = (await looking.jobs("q", limit=3)).cursor
    with pytest.raises(InvalidRequestError, match="of another list"):
        await looking.jobs("q", parse(state="failed"), cursor=cursor)


async def test_queue_that_is_nowhere_is_unknown_and_one_of_others_is_found(
    looking: Looking, redis: Redis, prefix: str
) -> None:
    with pytest.raises(UnknownQueueError):
        await looking.jobs("nowhere")
    for bad in ("", "a:b", "a\nb", "x" * 300):
        with pytest.raises(InvalidRequestError):
            await looking.jobs(bad)
    assert (await looking.jobs("q")).items == ()
    await seed(redis, prefix, "theirs", "failed", 2, now_ms=NOW)
    assert len((await looking.jobs("theirs")).items) == 2

"""Acts on single jobs, on a real server: what is where afterwards, and who is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bullmq import FlowProducer, Queue
from redis.asyncio import Redis

from tests.conftest import MakeWorker, wait_until
from workers.broker import keys
from workers.broker.act_runner import CHUNK, Answer, UnfinishedError
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted
from workers.broker.job_acts import JobActs

HOUR_MS = 3_600_000


@pytest.fixture
async def acts(endpoint: Endpoint) -> AsyncIterator[JobActs]:
    client = endpoint.commands()
    yield JobActs(client, endpoint.prefix)
    await client.aclose()


@pytest.fixture
async def queue(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("q", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


@pytest.fixture
async def other(redis_url: str, prefix: str) -> AsyncIterator[Any]:
    queue = Queue("other", {"connection": redis_url, "prefix": prefix})
    yield queue
    await queue.close()


async def run(redis: Redis, prefix: str, job_id: str, how: str, *, queue: str = "q", **fields: str) -> None:
    """Make a waiting job one that has ended or is active, as a worker would."""
    base = f"{prefix}:{queue}:"
    await redis.lrem(f"{base}wait", 1, job_id)
    await redis.zrem(f"{base}prioritized", job_id)
    row: dict[Any, Any] = {"ats": "1", "processedOn": "1700000000000"}
    if how == "active":
        await redis.lpush(f"{base}active", job_id)
    else:
        row |= {"failedReason": "no"} if how == "failed" else {"returnvalue": "1"}
        row |= {"atm": "1", "finishedOn": "1700000000001"}
        await redis.zadd(f"{base}{how}", {job_id: 1_700_000_000_001})
    await redis.hset(f"{base}{job_id}", mapping=row | fields)


async def events(redis: Redis, prefix: str, queue: str = "q") -> list[dict[str, str]]:
    stored: Any = await redis.xrange(f"{prefix}:{queue}:events")
    return [fields for _, fields in stored]


async def stand(queue: Any, job_id: str) -> str:
    state: str = await queue.getJobState(job_id)
    return state


# ---------------------------------------------------------------------------- retry


@pytest.mark.parametrize("how", ["failed", "completed"])
async def test_retried_job_waits_and_runs(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker, how: str
) -> None:
    job = await queue.add("n", {"a": 1})
    await run(redis, prefix, job.id, how)
    assert await acts.retry("q", [job.id]) == [Answer(job.id, "ok", how)]
    assert await stand(queue, job.id) == "waiting"
    row = await redis.hgetall(f"{prefix}:q:{job.id}")
    assert "finishedOn" not in row and "failedReason" not in row and "returnvalue" not in row
    assert row["atm"] == "1"
    assert {"event": "waiting", "jobId": job.id, "prev": how} in await events(redis, prefix)
    made = await make_worker()
    await wait_until(lambda: made.of(JobCompleted))


async def test_retried_job_with_a_priority_and_one_that_is_lifo_go_where_they_were(
    acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    ranked = await queue.add("n", {}, {"priority": 5})
    first = await queue.add("n", {})
    lifo = await queue.add("n", {}, {"lifo": True})
    for job in (ranked, lifo):
        await run(redis, prefix, job.id, "failed")
    await acts.retry("q", [ranked.id, lifo.id], anew=True)
    assert await redis.zrange(f"{prefix}:q:prioritized", 0, -1) == [ranked.id]
    assert await redis.lrange(f"{prefix}:q:wait", 0, -1) == [first.id, lifo.id]
    assert await redis.hget(f"{prefix}:q:{ranked.id}", "atm") is None


@pytest.mark.parametrize("status", ["Canceling", "suggested", "FAILED", "Completed"])
async def test_retry_takes_back_a_status_that_would_stop_it(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, status: str
) -> None:
    job = await queue.add("n", {})
    text = f'{{"big":12345678901234567890,  "status":"{status}","f":1.0}}'
    await run(redis, prefix, job.id, "failed", data=text)
    await redis.set(keys.cancellation(prefix, "q", job.id), "x")
    await acts.retry("q", [job.id])
    assert await redis.hget(f"{prefix}:q:{job.id}", "data") == text.replace(status, "Scheduled")
    assert not await redis.exists(keys.cancellation(prefix, "q", job.id))


async def test_what_is_not_in_a_state_for_it_is_left_alone_and_its_state_told(
    acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    waiting = await queue.add("n", {})
    delayed = await queue.add("n", {}, {"delay": HOUR_MS})
    active = await queue.add("n", {})
    done = await queue.add("n", {})
    await run(redis, prefix, active.id, "active")
    await run(redis, prefix, done.id, "completed")
    before = await redis.hgetall(f"{prefix}:q:{done.id}")
    ids = [waiting.id, delayed.id, active.id, "none"]
    told = [("not", "waiting"), ("not", "delayed"), ("not", "active"), ("gone", "unknown")]
    assert [(each.word, each.state) for each in await acts.retry("q", ids)] == told
    ids = [waiting.id, active.id, done.id]
    told = [("not", "waiting"), ("not", "active"), ("not", "completed")]
    assert [(each.word, each.state) for each in await acts.promote("q", ids)] == told
    assert [(each.word, each.state) for each in await acts.change_delay("q", ids, 5)] == told
    assert (await acts.change_priority("q", [done.id], 5, lifo=False))[0].state == "completed"
    assert (await acts.move("q", [active.id], "other"))[0].state == "active"
    assert (await acts.cancel("q", [done.id], "no"))[0] == Answer(done.id, "not", "completed")
    assert (await acts.change_data("q", done.id, "{}", "[]", ["waiting"])) == Answer(done.id, "not", "completed")
    assert (await acts.replay("q", [waiting.id]))[0] == Answer(waiting.id, "not", "waiting")
    assert await redis.hgetall(f"{prefix}:q:{done.id}") == before
    assert [await stand(queue, each) for each in ids] == ["waiting", "active", "completed"]


async def test_more_jobs_than_one_round_trip_takes_keep_their_order(
    acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    jobs = [await queue.add("n", {}, {"delay": HOUR_MS}) for _ in range(CHUNK + 20)]
    ids = [job.id for job in jobs]
    await redis.script_flush()
    answers = await acts.promote("q", [*ids, "none"])
    assert answers == [*(Answer(job_id, "ok", "delayed") for job_id in ids), Answer("none", "gone")]
    assert await redis.llen(f"{prefix}:q:wait") == CHUNK + 20


# --------------------------------------------------------------------- cancel, waiting


@pytest.mark.parametrize("where", ["waiting", "prioritized", "delayed", "waiting-children", "paused"])
async def test_job_that_waits_is_failed_for_good_as_by_a_worker(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, where: str
) -> None:
    opts = {"prioritized": {"priority": 3}, "delayed": {"delay": HOUR_MS}}.get(where, {})
    job = await queue.add("n", {"status": "Scheduled"}, {"attempts": 5, **opts})
    if where in ("waiting-children", "paused"):
        await redis.lrem(f"{prefix}:q:wait", 1, job.id)
        if where == "paused":
            await redis.lpush(f"{prefix}:q:paused", job.id)
        else:
            await redis.zadd(f"{prefix}:q:waiting-children", {job.id: 1})
    state = "waiting" if where == "paused" else where
    (answer,) = await acts.cancel("q", [job.id], "cancelled by ann: no", texts=lambda data: ('{"n":1}', ""))
    assert answer == Answer(job.id, "ok", state)
    assert await stand(queue, job.id) == "failed"
    row = await redis.hgetall(f"{prefix}:q:{job.id}")
    assert (row["failedReason"], row["data"]) == ("cancelled by ann: no", '{"n":1}')
    assert int(row["finishedOn"]) > 1_700_000_000_000
    for place in ("wait", "paused", "active", "prioritized", "delayed", "waiting-children"):
        kind = await redis.type(f"{prefix}:q:{place}")
        assert kind == "none", f"{place} is empty"
    heard = await events(redis, prefix)
    assert {"event": "failed", "jobId": job.id, "failedReason": "cancelled by ann: no", "prev": "active"} in heard
    assert int(await redis.hget(f"{prefix}:q:metrics:failed", "count") or 0) == 1


async def test_cancelled_child_fails_its_parent_or_not_as_its_options_say(
    acts: JobActs, queue: Any, redis: Redis, redis_url: str, prefix: str
) -> None:
    flows = FlowProducer(redis_url, {"prefix": prefix})
    made = []
    for option in ({"failParentOnFailure": True}, {"ignoreDependencyOnFailure": True}, {}):
        child = {"name": "c", "queueName": "q", "data": {}, "opts": option}
        made.append(await flows.add({"name": "p", "queueName": "q", "data": {}, "children": [child]}))
    await flows.close()
    children = [flow["children"][0]["job"].id for flow in made]
    await acts.cancel("q", children, "no")
    states = [await stand(queue, flow["job"].id) for flow in made]
    assert states == ["waiting", "waiting", "waiting-children"]
    assert "failed" in (await redis.hget(f"{prefix}:q:{made[0]['job'].id}", "defa") or "")


async def test_keep_rules_hold_for_a_cancelled_job(acts: JobActs, queue: Any, redis: Redis, prefix: str) -> None:
    job = await queue.add("n", {}, {"removeOnFail": True})
    assert (await acts.cancel("q", [job.id], "no"))[0].word == "ok"
    assert not await redis.exists(f"{prefix}:q:{job.id}")
    assert await redis.zcard(f"{prefix}:q:failed") == 0


async def test_rows_that_would_break_the_script_are_mended_first(
    acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    job = await queue.add("n", {})
    await redis.hset(f"{prefix}:q:{job.id}", mapping={"atm": "many", "parent": "{"})
    assert (await acts.cancel("q", [job.id], "no"))[0].word == "ok"
    assert await stand(queue, job.id) == "failed"


async def test_next_job_of_a_schedule_is_not_taken_from_it(acts: JobActs, queue: Any, prefix: str) -> None:
    job = await queue.upsertJobScheduler("yearly", {"pattern": "0 3 1 1 *"}, "n", {})
    for act in (acts.cancel("q", [job.id], "no"), acts.remove("q", [job.id]), acts.move("q", [job.id], "other")):
        (answer,) = await act
        assert (answer.word, answer.detail) == ("schedule", "yearly")
    assert await stand(queue, job.id) == "delayed"


# --------------------------------------------------------------------- cancel, running


async def test_job_that_another_kind_of_worker_runs_is_left_alone(
    acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    job = await queue.add("n", {"status": "Running"})
    await run(redis, prefix, job.id, "active", pb="node-7")
    await redis.set(f"{prefix}:q:{job.id}:lock", "5d3f:1")
    stop = lambda data: ("ended", "asked")  # noqa: E731
    assert await acts.cancel("q", [job.id], "no", texts=stop) == [Answer(job.id, "held", "active", "node-7")]
    assert json.loads(await redis.hget(f"{prefix}:q:{job.id}", "data") or "") == {"status": "Running"}
    assert await acts.cancel("q", [job.id], "no", texts=stop, anyhow=True) == [
        Answer(job.id, "written", "active", "node-7")
    ]
    assert await redis.hget(f"{prefix}:q:{job.id}", "data") == "asked"
    assert not await redis.exists(keys.cancellation(prefix, "q", job.id))
    assert (await acts.remove("q", [job.id]))[0] == Answer(job.id, "held", "active", "node-7")
    await redis.delete(f"{prefix}:q:{job.id}:lock")


async def test_job_of_ours_that_runs_is_asked(acts: JobActs, queue: Any, redis: Redis, prefix: str) -> None:
    job = await queue.add("n", {})
    await run(redis, prefix, job.id, "active", pb="own-0@host")
    await redis.set(f"{prefix}:q:{job.id}:lock", f"{keys.TOKEN_PREFIX}a:1")
    (answer,) = await acts.cancel("q", [job.id], "no", texts=lambda data: ("ended", "asked"))
    assert answer == Answer(job.id, "asked", "active", "own-0@host")
    assert await redis.hget(f"{prefix}:q:{job.id}", "data") == "asked"
    key = keys.cancellation(prefix, "q", job.id)
    assert json.loads(await redis.get(key) or "")["reason"] == "no"
    assert await redis.pttl(key) > 0
    await redis.delete(f"{prefix}:q:{job.id}:lock")


async def test_job_whose_worker_is_gone_is_failed_at_once(acts: JobActs, queue: Any, redis: Redis, prefix: str) -> None:
    await queue.client.hset(f"{prefix}:q:meta", "concurrency", 1)
    job = await queue.add("n", {})
    await run(redis, prefix, job.id, "active")
    await redis.delete(f"{prefix}:q:marker")
    assert await acts.cancel("q", [job.id], "no") == [Answer(job.id, "ok", "active")]
    assert await stand(queue, job.id) == "failed"
    assert await redis.zscore(f"{prefix}:q:marker", "0") == 0, "a worker that found the queue full looks again"


# ------------------------------------------------------------------------------- data


async def test_data_are_changed_only_while_they_are_what_was_seen(
    acts: JobActs, queue: Any, redis: Redis, prefix: str
) -> None:
    job = await queue.add("n", {"a": 1})
    key = f"{prefix}:q:{job.id}"
    seen = str(await redis.hget(key, "data"))
    assert (await acts.change_data("q", job.id, "{}", "[2]", ["waiting"])).word == "changed"
    assert (await acts.change_data("q", job.id, seen, "[2]", ["waiting"])).word == "ok"
    assert await redis.hget(key, "data") == "[2]"
    assert (await acts.change_data("q", "none", "", "1", ["waiting"])).word == "gone"


# ------------------------------------------------------------------------------- move


@pytest.mark.parametrize("where", ["waiting", "prioritized", "delayed", "failed"])
async def test_job_moves_with_all_that_it_has(
    acts: JobActs, queue: Any, other: Any, redis: Redis, prefix: str, where: str
) -> None:
    opts: dict[str, Any] = {"attempts": 7, "backoff": {"type": "fixed", "delay": 5}, "jobId": "j:1"}
    opts |= {"prioritized": {"priority": 9}, "delayed": {"delay": HOUR_MS}}.get(where, {})
    job = await queue.add("n", {"big": 12345678901234567890, "f": 1.0, "e": []}, opts)
    await redis.hset(f"{prefix}:q:{job.id}", mapping={"atm": "2", "ats": "3", "stacktrace": '["s"]'})
    await redis.rpush(f"{prefix}:q:{job.id}:logs", "one", "two")
    if where == "failed":
        await run(redis, prefix, job.id, "failed", atm="2", ats="3")
    before = await redis.hgetall(f"{prefix}:q:{job.id}")
    due = await redis.zscore(f"{prefix}:q:delayed", job.id)
    await redis.set(keys.checkpoint(prefix, "q", job.id), "state")
    assert await acts.move("q", [job.id], "other") == [Answer(job.id, "ok", where, job.id)]
    assert await stand(queue, job.id) == "unknown"
    assert await stand(other, job.id) == ("waiting" if where == "failed" else where)
    after = await redis.hgetall(f"{prefix}:other:{job.id}")
    for name in ("name", "data", "opts", "timestamp", "atm", "ats", "stacktrace", "priority", "delay"):
        assert after[name] == before[name], name
    assert "failedReason" not in after and "finishedOn" not in after
    assert await redis.lrange(f"{prefix}:other:{job.id}:logs", 0, -1) == ["one", "two"]
    assert await redis.get(keys.checkpoint(prefix, "other", job.id)) == "state"
    if where == "delayed":
        assert abs((await redis.zscore(f"{prefix}:other:delayed", job.id) or 0) - (due or 0)) < 0x1000
    left = {key async for key in redis.scan_iter(match=f"{prefix}:q:{job.id}*")}
    assert left == set()
    here, there = await events(redis, prefix), await events(redis, prefix, "other")
    assert [each["event"] for each in here if each.get("jobId") == job.id][-1] == "removed"
    assert [each["event"] for each in there] == ["added", "delayed" if where == "delayed" else "waiting"]


async def test_job_that_is_due_already_waits_in_the_other_queue(
    acts: JobActs, queue: Any, other: Any, redis: Redis, prefix: str
) -> None:
    job = await queue.add("n", {}, {"delay": HOUR_MS})
    await redis.zadd(f"{prefix}:q:delayed", {job.id: 1_700_000_000_000 * 0x1000})
    await acts.move("q", [job.id], "other")
    assert await stand(other, job.id) == "waiting"
    assert await redis.hget(f"{prefix}:other:{job.id}", "delay") == "0"


async def test_job_is_not_moved_over_another_nor_out_of_its_flow(
    acts: JobActs, queue: Any, other: Any, redis_url: str, redis: Redis, prefix: str
) -> None:
    for where in (queue, other):
        await where.add("n", {}, {"jobId": "same"})
    await queue.add("n", {}, {"jobId": "dedup", "deduplication": {"id": "d"}})
    twin = await other.add("n", {}, {"deduplication": {"id": "d"}})
    await queue.add("n", {}, {"jobId": "odd"})
    await redis.hset(f"{prefix}:q:odd", "opts", "{")
    flows = FlowProducer(redis_url, {"prefix": prefix})
    child = {"name": "c", "queueName": "q", "data": {}}
    flow = await flows.add({"name": "p", "queueName": "q", "data": {}, "children": [child]})
    await flows.close()
    ids = ["same", "dedup", "odd", flow["children"][0]["job"].id, flow["job"].id]
    answers = await acts.move("q", ids, "other")
    assert [each.word for each in answers] == ["taken", "deduplicated", "broken", "flow", "not"]
    assert answers[1].detail == twin.id
    assert [await stand(queue, job_id) for job_id in ids] == [*["waiting"] * 4, "waiting-children"]


# ----------------------------------------------------------------------------- replay


async def test_replays_are_new_jobs_with_numbers(
    acts: JobActs, queue: Any, redis: Redis, prefix: str, make_worker: MakeWorker
) -> None:
    opts = {"jobId": "j", "attempts": 4, "priority": 3, "deduplication": {"id": "d"}, "removeOnFail": {"age": 60}}
    await queue.add("n", {"a": 1, "status": "Failed"}, opts)
    await run(redis, prefix, "j", "failed")
    (first,) = await acts.replay("q", ["j"])
    (second,) = await acts.replay("q", ["j"], data='{"a":2}')
    assert [each.detail for each in (first, second)] == ["j-replay-1", "j-replay-2"]
    one, two = [await redis.hgetall(f"{prefix}:q:{each.detail}") for each in (first, second)]
    assert (json.loads(one["data"]), two["data"]) == ({"a": 1, "status": "Scheduled"}, '{"a":2}')
    assert json.loads(one["opts"]) == {"attempts": 4, "priority": 3, "removeOnFail": {"age": 60}}
    assert (one["priority"], "deid" in one) == ("3", False)
    assert await stand(queue, "j") == "failed"
    made = await make_worker()
    await wait_until(lambda: len(made.of(JobCompleted)) == 2)
    (third,) = await acts.replay("q", ["j-replay-1"])
    assert third.detail == "j-replay-3"


# ----------------------------------------------------------------- a Node that pauses


async def test_jobs_go_where_a_bullmq_before_6_looks_while_it_has_paused_the_queue(
    acts: JobActs, queue: Any, other: Any, redis: Redis, prefix: str
) -> None:
    """Such a version renames `paused` over `wait` when it resumes: what waits in `wait` by then would be lost."""
    failed = await queue.add("n", {})
    await run(redis, prefix, failed.id, "failed")
    delayed = await queue.add("n", {}, {"delay": HOUR_MS})
    ranked = await queue.add("n", {}, {"priority": 7})
    moved = await other.add("n", {}, {"jobId": "moved"})
    await redis.hset(f"{prefix}:q:meta", mapping={"paused": "1", "version": "bullmq:5.53.2"})
    await acts.retry("q", [failed.id])
    await acts.promote("q", [delayed.id])
    await acts.change_priority("q", [ranked.id], 0, lifo=False)
    await acts.move("other", [moved.id], "q")
    assert set(await redis.lrange(f"{prefix}:q:paused", 0, -1)) == {failed.id, delayed.id, ranked.id, "moved"}
    assert not await redis.exists(f"{prefix}:q:wait")
    await acts.change_priority("q", [failed.id], 4, lifo=False)
    assert await redis.zrange(f"{prefix}:q:prioritized", 0, -1) == [failed.id]


# ------------------------------------------------------------------------------ faults


async def test_redis_that_is_away_says_that_nothing_was_done(prefix: str) -> None:
    client = Endpoint(url="redis://127.0.0.1:1/0", prefix=prefix).commands()
    with pytest.raises(UnfinishedError) as broken:
        await JobActs(client, prefix).promote("q", ["1", "2"][:1])
    assert (broken.value.done, broken.value.doubtful, broken.value.left) == ((), (), ("1",))
    await client.aclose()

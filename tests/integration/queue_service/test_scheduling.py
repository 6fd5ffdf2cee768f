"""Schedules on a real server: those of fleet.yaml are kept, and nobody else's are touched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from bullmq import Queue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from config.schema import FleetConfig
from tests.conftest import Server
from workers.broker import keys
from workers.broker.client import FleetRedis
from workers.broker.endpoint import Endpoint
from workers.broker.schedulers import NewSchedule, Schedulers
from workers.queue_service import QueueUnavailableError, UnknownQueueError
from workers.queue_service.actor import Actor
from workers.queue_service.errors import InvalidRequestError, RefusedError, UnknownJobError
from workers.queue_service.new_schedules import NewSchedules
from workers.queue_service.queue_names import QueueNames
from workers.queue_service.reach import Reach
from workers.queue_service.report import Act
from workers.queue_service.routes import Routes
from workers.queue_service.schedule import ScheduleSpec
from workers.queue_service.scheduling import ReconcileReport, Scheduling

ANN = Actor("ann", via="cli")
MAIL = {"to": ["a@example.com"], "subject": "Hi", "text": "Hello"}
Q = "email-send"
CONFIG = FleetConfig.model_validate(
    {
        "pools": {"p": {}},
        "queues": {
            name: {"pool": "p", "concurrency": 1, "task": {"timeout": 1}} for name in (Q, "sms-message", "run-start")
        },
    }
)
Entries = Mapping[str, Any] | None


class Made:
    """Schedules over one server."""

    def __init__(self, endpoint: Endpoint, timeout_s: float = 15.0) -> None:
        self.client = cast(FleetRedis, endpoint.commands())
        self.schedulers = Schedulers(self.client, endpoint.prefix, timeout_s=timeout_s)
        self.new = NewSchedules(Routes.of(CONFIG))
        self.acts: list[Act] = []
        self.service = Scheduling(
            self.schedulers,
            QueueNames(self.client, endpoint.prefix, tuple(CONFIG.queues), Reach(timeout_s)),
            self.new,
            queues=tuple(CONFIG.queues),
            audit=self.acts.append,
        )

    async def reconcile(self, entries: Entries, **how: Any) -> ReconcileReport:
        """With these entries of fleet.yaml for the queue."""
        made = None
        if entries is not None:
            specs = {name: ScheduleSpec(data=MAIL, **values) for name, values in entries.items()}
            made = {(Q, name): self.new.make(Q, name, spec) for name, spec in specs.items()}
        self.service.declared = made
        return await self.service.reconcile(**how)


def actions(report: ReconcileReport) -> dict[str, str]:
    return {step.id: step.action for step in report.steps}


@pytest.fixture
async def made(endpoint: Endpoint) -> AsyncIterator[Made]:
    made = Made(endpoint)
    yield made
    await made.client.aclose()


@pytest.fixture
def stock(redis: Redis, prefix: str) -> Queue:
    """BullMQ's own queue, as a program beside us has it."""
    return Queue(Q, {"connection": redis, "prefix": prefix})


DAILY: dict[str, Any] = {"cron": "0 3 * * *", "tz": "Europe/Berlin"}
HOURLY: dict[str, Any] = {"every_ms": 3_600_000}


async def test_declared_ones_are_bullmqs_schedulers(made: Made, stock: Queue) -> None:
    report = await made.reconcile({"daily": DAILY, "hourly": {**HOURLY, "limit": 5, "priority": 7, "attempts": 2}})
    assert actions(report) == {"daily": "add", "hourly": "add"} and str(report) == "2 added"
    daily, hourly = [await stock.getJobScheduler(name) for name in ("daily", "hourly")]
    assert (daily["pattern"], daily["tz"], daily["name"]) == ("0 3 * * *", "Europe/Berlin", Q)
    assert daily["template"]["data"] == {"type": Q, **MAIL}
    assert (hourly["every"], hourly["limit"]) == (3_600_000, 5)
    assert (hourly["template"]["opts"]["priority"], hourly["template"]["opts"]["attempts"]) == (7, 2)
    assert [(act.actor.name, act.action, act.target, act.outcome) for act in made.acts] == [
        ("fleet.yaml", "schedule", "daily", "done"),
        ("fleet.yaml", "schedule", "hourly", "done"),
    ]


async def test_second_time_nothing_is_written(made: Made, redis: Redis, prefix: str) -> None:
    await made.reconcile({"daily": DAILY, "hourly": HOURLY})
    before = await _all(redis, prefix)
    report = await made.reconcile({"daily": DAILY, "hourly": HOURLY})
    assert actions(report) == {"daily": "leave", "hourly": "leave"}
    assert await _all(redis, prefix) == before


async def test_changed_entry_is_written_and_one_that_is_gone_removed(made: Made, stock: Queue) -> None:
    await made.reconcile({"daily": DAILY, "hourly": HOURLY})
    report = await made.reconcile({"daily": {**DAILY, "cron": "0 4 * * *"}})
    assert actions(report) == {"daily": "update", "hourly": "remove"}
    (only,) = await stock.getJobSchedulers()
    assert (only["key"], only["pattern"]) == ("daily", "0 4 * * *")
    assert len(await stock.getJobs(["delayed"])) == 1, "the run that was planned went with it"
    assert actions(await made.reconcile({})) == {"daily": "remove"}
    assert await stock.getJobSchedulersCount() == 0 and await made.schedulers.marked(Q) == {}


async def test_without_a_section_none_is_touched(made: Made, stock: Queue) -> None:
    await made.reconcile({"daily": DAILY})
    assert await made.reconcile(None) == ReconcileReport()
    assert await stock.getJobSchedulersCount() == 1


async def test_somebody_elses_are_never_touched(made: Made, stock: Queue, redis: Redis, prefix: str) -> None:
    await stock.upsertJobScheduler("theirs", {"every": 60_000}, "n", {"a": 1})
    await stock.upsertJobScheduler("daily", {"pattern": "1 1 * * *"}, "n", {"a": 2})
    before = await _all(redis, prefix)
    for _ in range(2):
        report = await made.reconcile({"daily": DAILY}, restore=True)
        assert actions(report) == {"daily": "leave"}
    await made.reconcile({})
    assert await _all(redis, prefix) == before


async def test_change_by_hand_stays_until_the_entry_changes(made: Made, stock: Queue) -> None:
    await made.reconcile({"daily": DAILY, "hourly": HOURLY})
    await stock.upsertJobScheduler("daily", {"pattern": "5 5 * * *"}, "n", {"a": 1})
    await stock.removeJobScheduler("hourly")
    report = await made.reconcile({"daily": DAILY, "hourly": HOURLY})
    assert actions(report) == {"daily": "leave", "hourly": "leave"}
    assert all(step.is_notable and "by hand" in step.reason for step in report.steps)
    assert (await stock.getJobScheduler("daily"))["pattern"] == "5 5 * * *"
    shown = {each.id: each.origin for each in await made.service.schedules(Q)}
    assert shown == {"daily": "changed"}
    changed = await made.reconcile({"daily": {**DAILY, "limit": 9}, "hourly": {"every_ms": 7_200_000}})
    assert actions(changed) == {"daily": "update", "hourly": "add"}
    assert (await stock.getJobScheduler("daily"))["pattern"] == "0 3 * * *"


async def test_change_by_hand_is_taken_back_where_that_is_asked_for(made: Made, stock: Queue) -> None:
    await made.reconcile({"daily": DAILY, "hourly": HOURLY})
    await stock.upsertJobScheduler("daily", {"pattern": "5 5 * * *"}, "n", {})
    await stock.removeJobScheduler("hourly")
    report = await made.reconcile({"daily": DAILY, "hourly": HOURLY}, restore=True)
    assert actions(report) == {"daily": "update", "hourly": "add"}
    assert {each.id: each.origin for each in await made.service.schedules(Q)} == {
        "daily": "declared",
        "hourly": "declared",
    }


async def test_one_that_was_edited_is_left_to_whoever_did_so_when_it_is_declared_no_more(
    made: Made, stock: Queue
) -> None:
    await made.reconcile({"daily": DAILY})
    await stock.upsertJobScheduler("daily", {"pattern": "5 5 * * *"}, "n", {})
    assert actions(await made.reconcile({})) == {"daily": "forget"}
    assert await stock.getJobSchedulersCount() == 1
    assert actions(await made.reconcile({"daily": DAILY})) == {"daily": "leave"}, "it is somebody else's now"


async def test_many_fleets_at_once_write_each_once(endpoint: Endpoint, stock: Queue) -> None:
    entries = {f"s{number}": DAILY if number % 2 else HOURLY for number in range(6)}
    fleets = [Made(endpoint) for _ in range(5)]
    reports = await asyncio.gather(*(fleet.reconcile(entries) for fleet in fleets))
    added = [step.id for report in reports for step in report.steps if step.action == "add"]
    assert sorted(added) == sorted(entries), "each by one of them"
    assert not any(report.problems for report in reports)
    assert await stock.getJobSchedulersCount() == 6 and len(await stock.getJobs(["delayed", "waiting"])) == 6
    for fleet in fleets:
        await fleet.client.aclose()


async def test_fleets_with_different_files_come_to_an_end(endpoint: Endpoint, stock: Queue) -> None:
    old, new = Made(endpoint), Made(endpoint)
    one, two = {"daily": DAILY, "gone": HOURLY}, {"daily": {**DAILY, "cron": "0 4 * * *"}, "more": HOURLY}
    for _ in range(3):
        await asyncio.gather(old.reconcile(one), new.reconcile(two))
    await new.reconcile(two)
    assert {each["key"] for each in await stock.getJobSchedulers()} == {"daily", "more"}
    assert actions(await new.reconcile(two)) == {"daily": "leave", "more": "leave"}
    await old.client.aclose()
    await new.client.aclose()


async def test_one_whose_next_run_was_lost_is_begun_again(made: Made, stock: Queue, redis: Redis, prefix: str) -> None:
    """As after an `obliterate` by halves, or a worker of others that could not plan it."""
    await made.reconcile({"daily": {**DAILY, "limit": 5}})
    (job,) = await stock.getJobs(["delayed"])
    await redis.zrem(f"{prefix}:{Q}:delayed", job.id)
    await redis.delete(f"{prefix}:{Q}:{job.id}")
    assert (await made.service.schedule(Q, "daily")).state == "stopped"
    report = await made.reconcile({"daily": {**DAILY, "limit": 5}})
    assert actions(report) == {"daily": "update"} and report.steps[0].is_notable
    (again,) = await stock.getJobs(["delayed"])
    assert again.opts["repeat"]["count"] == 2, "the one that was lost counts"


async def test_end_that_is_over_is_not_begun(made: Made, stock: Queue) -> None:
    report = await made.reconcile({"daily": {**DAILY, "end_ms": round(time.time() * 1000) - 1}})
    assert [(step.action, step.reason) for step in report.steps] == [("leave", "its end is over")]
    assert await stock.getJobSchedulersCount() == 0


# ---------------------------------------------------------------- look and act


async def test_operator_makes_looks_at_and_removes_one(made: Made, stock: Queue) -> None:
    report = await made.service.upsert(Q, "own", ScheduleSpec(data=MAIL, **DAILY, missed="skip"), actor=ANN)
    assert (report.action, report.done) == ("schedule", 1)
    found = (await made.service.schedule(Q, "own")).json()
    assert found["pattern"] == "0 3 * * *" and found["missed"] == "skip" and found["origin"] == "other"
    assert found["template"]["data"] == {"type": Q, **MAIL} and "fleet" not in found["template"]["opts"]
    assert found["state"] == "planned" and found["next"] == (await stock.getJobScheduler("own"))["next"]
    await made.service.remove(Q, "own", actor=ANN)
    assert await made.service.schedules() == []
    with pytest.raises(UnknownJobError, match="there is no schedule own in queue email-send"):
        await made.service.schedule(Q, "own")
    with pytest.raises(UnknownJobError):
        await made.service.remove(Q, "own", actor=ANN)
    assert [(act.action, act.target, act.outcome) for act in made.acts] == [
        ("schedule", "own", "done"),
        ("unschedule", "own", "done"),
        ("unschedule", "own", "refused"),
    ]


async def test_declared_one_that_an_operator_removes_stays_removed(made: Made, stock: Queue) -> None:
    await made.reconcile({"daily": DAILY})
    await made.service.remove(Q, "daily", actor=ANN)
    assert actions(await made.reconcile({"daily": DAILY})) == {"daily": "leave"}
    assert await stock.getJobSchedulersCount() == 0


async def test_what_is_wrong_changes_nothing(made: Made, redis: Redis, prefix: str) -> None:
    good = ScheduleSpec(data=MAIL, **DAILY)
    with pytest.raises(UnknownQueueError):
        await made.service.upsert("no-such", "s", good, actor=ANN)
    with pytest.raises(InvalidRequestError, match=r"^cron: "):
        await made.service.upsert(Q, "s", ScheduleSpec(data=MAIL, cron="x"), actor=ANN)
    with pytest.raises(InvalidRequestError, match=r"^id: "):
        await made.service.schedule(Q, "")
    user = Actor("u", user_id="7")
    for act in (made.service.upsert(Q, "s", good, actor=user), made.service.remove(Q, "s", actor=user)):
        with pytest.raises(RefusedError, match="only operators"):
            await act
    assert {act.outcome for act in made.acts} == {"refused"}
    assert await _all(redis, prefix) == {}


async def test_all_queues_are_looked_at_and_others_rows_read_tolerantly(made: Made, redis: Redis, prefix: str) -> None:
    await redis.zadd(f"{prefix}:sms-message:repeat", {"odd": 5, "n:::UTC:* * * * *": 6})
    row: Any = {"ic": "x", "data": "{", "opts": "[", "every": "1e400"}
    await redis.hset(f"{prefix}:sms-message:repeat:odd", mapping=row)
    await made.service.upsert(Q, "own", ScheduleSpec(data=MAIL, **HOURLY), actor=ANN)
    found = {each.id: each for each in await made.service.schedules()}
    assert set(found) == {"own", "odd", "n:::UTC:* * * * *"}
    assert found["odd"].json()["problems"] and found["n:::UTC:* * * * *"].stored.is_legacy


async def test_redis_that_is_away_is_said_quickly(make_server: Any) -> None:
    server: Server = make_server()
    made = Made(Endpoint(url=server.url, prefix="t", connect_timeout_s=0.3, command_timeout_s=0.3), timeout_s=1.0)
    await made.reconcile({"daily": DAILY})
    server.stop()
    with pytest.raises(QueueUnavailableError):
        await made.reconcile({"daily": DAILY})
    with pytest.raises(QueueUnavailableError):
        await made.service.schedules(Q)
    with pytest.raises(QueueUnavailableError):
        await made.service.upsert(Q, "s", ScheduleSpec(data=MAIL, **DAILY), actor=ANN)
    assert made.acts[-1].outcome == "failed"
    await made.client.aclose()


SAFE = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = st.recursive(
    st.booleans() | SAFE | st.text(st.characters(codec="utf-8"), max_size=4),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), below, max_size=3)
    ),
    max_leaves=6,
)
DATA = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), VALUES, max_size=3)
OPTIONS = st.dictionaries(st.sampled_from(["attempts", "lifo", "x", "removeOnFail", "kl"]), VALUES, max_size=3)


async def test_what_is_stored_has_the_fingerprint_of_what_was_written(made: Made) -> None:
    """Through msgpack, Lua and cjson: else every start would find its own schedules changed by somebody."""
    loop, tried = asyncio.get_running_loop(), 0

    async def one(data: dict[str, Any], options: dict[str, Any]) -> None:
        nonlocal tried
        tried += 1
        repeat = {"pattern": "0 3 * * *", "tz": "UTC", "limit": 5, "endDate": 1_999_999_999_000}
        new = NewSchedule(queue="q", id="p", name="nön", repeat=repeat, data=data, options=options)
        assert await made.schedulers.put(new) == "ok"
        found = (await made.schedulers.read("q", ["p"]))["p"].stored
        assert found is not None and found.fingerprint == new.fingerprint

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(DATA, OPTIONS)
    def each(data: dict[str, Any], options: dict[str, Any]) -> None:
        asyncio.run_coroutine_threadsafe(one(data, options), loop).result(30)

    await asyncio.to_thread(each)
    assert tried >= 60


async def _all(redis: Redis, prefix: str) -> dict[str, Any]:
    """Everything that is in Redis under the prefix, Fleet's own keys included; but for what only counts."""
    found: dict[str, Any] = {}
    own = keys.own_pattern(prefix).removesuffix("*")
    async for key in redis.scan_iter(count=1000):
        if not key.startswith((f"{prefix}:", own)) or key.endswith((":events", ":id")):
            continue
        found[key] = await _value(redis, key)
    return found


async def _value(redis: Redis, key: str) -> Any:
    match await redis.type(key):
        case "hash":
            return await cast(Any, redis.hgetall(key))
        case "zset":
            return await redis.zrange(key, 0, -1, withscores=True)
        case "list":
            return await cast(Any, redis.lrange(key, 0, -1))
    return await redis.get(key)

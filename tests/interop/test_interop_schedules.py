"""Schedules on both sides: ours seen, edited and run by Node, Node's run by us and left alone; the same times by both
cron libraries; and the global pause that a Node stack leaves behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import MakeWorker, wait_until
from tests.interop.acts import acts
from tests.interop.bridge import Js, eventually
from tests.interop.conftest import Running
from workers.broker import cron
from workers.broker.endpoint import Endpoint
from workers.broker.events import JobCompleted, WorkerError
from workers.broker.schedulers import NewSchedule, Schedulers
from workers.queue_service.queue_names import QueueNames
from workers.queue_service.reach import Reach
from workers.queue_service.scheduling import Scheduling

pytestmark = pytest.mark.node
conform = pytest.mark.conform
DAILY = {"pattern": "0 3 * * *", "tz": "Europe/Berlin"}


class Ours:
    """Our side: the schedules of a fleet.yaml."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.client: Any = endpoint.commands()
        self.schedulers = Schedulers(self.client, endpoint.prefix)
        names = QueueNames(self.client, endpoint.prefix, ("q",), Reach(15.0))
        unused: Any = None
        self.service = Scheduling(self.schedulers, names, unused, queues=("q",))

    async def declare(self, **repeats: dict[str, Any]) -> dict[str, str]:
        """Make these the schedules of queue q; what was done with each."""
        self.service.declared = {("q", name): schedule(name, repeat) for name, repeat in repeats.items()}
        return {step.id: step.action for step in (await self.service.reconcile()).steps}


def schedule(name: str, repeat: dict[str, Any]) -> NewSchedule:
    data = {"type": "q", "do": [["return", name]]}
    return NewSchedule(queue="q", id=name, name="q", repeat=repeat, data=data, options={"attempts": 2, "priority": 7})


@pytest.fixture
async def ours(endpoint: Endpoint) -> AsyncIterator[Ours]:
    ours = Ours(endpoint)
    yield ours
    await ours.client.aclose()


@conform("Job schedulers", "declared by Fleet, seen by Node")
async def test_node_sees_ours_whole(ours: Ours, js: Js) -> None:
    await ours.declare(daily={**DAILY, "limit": 5, "endDate": 1_999_999_999_000}, often={"every": 3_600_000})
    found = {each["key"]: each for each in await js.queue("q", "getJobSchedulers")}
    assert set(found) == {"daily", "often"} and await js.queue("q", "getJobSchedulersCount") == 2
    daily = await js.queue("q", "getJobScheduler", "daily")
    assert (daily["pattern"], daily["tz"], daily["limit"], daily["name"]) == ("0 3 * * *", "Europe/Berlin", 5, "q")
    assert daily["endDate"] == 1_999_999_999_000 and int(found["often"]["every"]) == 3_600_000
    assert daily["template"]["data"] == {"type": "q", "do": [["return", "daily"]]}
    assert (daily["template"]["opts"]["attempts"], daily["template"]["opts"]["priority"]) == (2, 7)
    (next_run,) = [job for job in await js.queue("q", "getDelayed") if job["id"].startswith("repeat:daily:")]
    assert next_run["timestamp"] + next_run["delay"] == daily["next"]


@conform("Job schedulers", "declared by Fleet, edited and removed by Node")
async def test_what_node_does_to_ours_stays(ours: Ours, js: Js) -> None:
    await ours.declare(daily=DAILY, often={"every": 3_600_000})
    template = {"name": "n", "data": {"a": 1}, "opts": {"attempts": 3}}
    await js.queue("q", "upsertJobScheduler", "daily", {"pattern": "5 5 * * *", "tz": "UTC"}, template)
    await js.queue("q", "removeJobScheduler", "often")
    assert await ours.declare(daily=DAILY, often={"every": 3_600_000}) == {"daily": "leave", "often": "leave"}
    (only,) = await js.queue("q", "getJobSchedulers")
    assert (only["key"], only["pattern"], only["template"]["data"]) == ("daily", "5 5 * * *", {"a": 1})
    assert [(each.id, each.origin) for each in await ours.service.schedules("q")] == [("daily", "changed")]
    assert await ours.declare(daily={**DAILY, "limit": 9}) == {"daily": "update", "often": "forget"}
    assert (await js.queue("q", "getJobScheduler", "daily"))["pattern"] == "0 3 * * *"
    assert await ours.declare() == {"daily": "remove"}
    assert await js.queue("q", "getJobSchedulers") == [] and await js.queue("q", "getDelayedCount") == 0


@conform("Job schedulers", "Node's own, left alone by Fleet")
async def test_nodes_own_are_never_touched(ours: Ours, js: Js) -> None:
    await js.queue("q", "upsertJobScheduler", "theirs", {"every": 3_600_000}, {"name": "n", "data": {"a": 1}})
    await js.queue("q", "upsertJobScheduler", "daily", {"pattern": "1 1 * * *", "tz": "UTC"}, {"name": "n"})
    before = await js.queue("q", "getJobSchedulers"), await js.queue("q", "getDelayed")
    assert await ours.declare(daily=DAILY, mine={"every": 7_200_000}) == {"daily": "leave", "mine": "add"}
    assert await ours.declare() == {"mine": "remove"}
    assert (await js.queue("q", "getJobSchedulers"), await js.queue("q", "getDelayed")) == before
    shown = {each.id: each.json() for each in await ours.service.schedules("q")}
    assert {name: each["origin"] for name, each in shown.items()} == {"theirs": "other", "daily": "other"}
    assert (shown["daily"]["pattern"], shown["theirs"]["every"]) == ("1 1 * * *", 3_600_000)


@conform("Job schedulers", "declared by Fleet, run by Node")
async def test_nodes_worker_runs_ours_to_their_limit(ours: Ours, js: Js) -> None:
    await js.work("q")
    entries: dict[str, Any] = {
        "often": {"every": 300, "limit": 3},
        "each": {"pattern": "* * * * * *", "tz": "UTC", "limit": 2},
    }
    await ours.declare(**entries)

    async def over() -> bool:
        return int(await js.queue("q", "getCompletedCount")) >= 5

    await eventually(over)
    await asyncio.sleep(0.7)
    results = sorted(line["result"] for line in js.told("completed", "q"))
    assert results == ["each", "each", "often", "often", "often"]
    assert await ours.declare(**entries) == {"often": "leave", "each": "leave"}
    assert {each.state for each in await ours.service.schedules("q")} == {"ended"}


@conform("Job schedulers", "runs shared by Node's and ours")
async def test_runs_are_shared_and_each_is_done_once(ours: Ours, js: Js, make_worker: MakeWorker) -> None:
    """Whoever starts a run plans the next one, by its own library."""
    made = await make_worker(acts)
    await js.work("q")
    await ours.declare(often={"every": 200, "limit": 12})

    async def over() -> bool:
        return int(await js.queue("q", "getCompletedCount")) >= 12

    await eventually(over)
    await asyncio.sleep(0.5)
    mine = [event.job_id for event in made.of(JobCompleted)]
    theirs = [line["id"] for line in js.told("completed", "q")]
    assert len(mine + theirs) == len(set(mine + theirs)) == 12
    assert not made.of(WorkerError)


@conform("Job schedulers", "made by Node, run by Fleet")
async def test_our_worker_runs_nodes_and_plans_as_node_would(js: Js, make_worker: MakeWorker) -> None:
    made = await make_worker(acts)
    template = {"name": "n", "data": {"do": [["return", 1]]}, "opts": {"attempts": 2}}
    await js.queue("q", "upsertJobScheduler", "cron", {"pattern": "* * * * * *", "tz": "Europe/Berlin"}, template)
    await wait_until(lambda: len(made.of(JobCompleted)) >= 2)
    await js.queue("q", "removeJobScheduler", "cron")
    assert {event.result for event in made.of(JobCompleted)} == {1}
    times = [int(event.job_id.rpartition(":")[2]) for event in made.of(JobCompleted)]
    assert times == sorted(set(times)) and all(at % 1000 == 0 for at in times)


CRONS = [
    ("*/7 * * * *", "Europe/Berlin", "2026-03-28T22:00"),
    ("30 * * * *", "America/New_York", "2026-10-31T10:00"),
    ("0 0 * * *", "Europe/Berlin", "2026-03-20T12:00"),
    ("30 2 * * *", "Europe/Berlin", "2026-03-20T12:00:17"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-20T12:00"),
    ("10 1-3 * * *", "America/New_York", "2026-10-25T12:00"),
    ("0 */6 * * *", "America/St_Johns", "2026-03-01T12:00"),
    ("*/20 1,2 * * *", "America/New_York", "2026-10-30T12:00"),
    ("0 8 * * MON-FRI", "Europe/Berlin", "2026-03-20T12:00"),
    ("0 0 1 * *", "Europe/Berlin", "2026-02-20T12:00"),
    ("0 0 L * *", "America/New_York", "2026-02-20T12:00"),
    ("0 0 */10 * *", "UTC", "2026-02-20T12:00"),
    ("0 0 1,15,30 * *", "Asia/Kolkata", "2026-01-20T12:00"),
    ("0 0 13 * 5", "Europe/Berlin", "2026-01-20T12:00"),
    ("0 12 * * 1#2", "Europe/Berlin", "2026-01-20T12:00"),
    ("0 12 * * 5L", "Europe/Berlin", "2026-01-20T12:00"),
    ("*/15 30 2 * * *", "Europe/Berlin", "2026-10-20T12:00"),
    ("@weekly", "Africa/Casablanca", "2026-02-01T12:00"),
]


@pytest.mark.parametrize(("pattern", "zone", "after"), CRONS)
async def test_next_fifty_times_are_those_of_nodes_library(js: Js, pattern: str, zone: str, after: str) -> None:
    """Over changes to and from daylight saving time. What is not here: zones whose clocks change at midnight or by
    half an hour, where Node leaves out a run or finds none (`test_broker_cron.py` has what we do).
    """
    at = round(datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp() * 1000)
    theirs = await js.repeat(at, {"pattern": pattern, "tz": zone}, 50)
    mine = []
    for _ in range(50):
        at = cron.next_time(pattern, zone, at)
        mine.append(at)
    assert mine == theirs


# ---------------------------------------------------------------- the global pause


async def test_pause_that_nodes_shutdown_leaves_is_told_and_ended(
    js: Js, start_fleet: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    await js.work("email-send")
    await js.stop("email-send")
    assert await js.queue("email-send", "isPaused")
    await start_fleet("on_global_pause.resume_after=1s")

    async def resumed() -> bool:
        return not await js.queue("email-send", "isPaused")

    await eventually(resumed, timeout_s=30)


async def test_pause_that_nodes_shutdown_leaves_is_reported_alone_unless_asked(
    js: Js, start_fleet: Callable[..., Any]
) -> None:
    await js.work("email-send")
    await js.stop("email-send")
    fleet: Running = await start_fleet()

    def told() -> bool:
        checks = {check.name: check for check in fleet.service.checks()}
        return "and stays so: see on_global_pause" in checks["email-send"].detail and checks["email-send"].ok

    await wait_until(told)
    assert await js.queue("email-send", "isPaused")


async def test_our_own_shutdown_pauses_nobody(js: Js, start_fleet: Callable[..., Any]) -> None:
    fleet: Running = await start_fleet()
    await fleet.service.stop(by=asyncio.get_running_loop().time() + 10)
    assert not await js.queue("email-send", "isPaused")


async def test_nodes_workers_on_our_queues_are_told(js: Js, start_fleet: Callable[..., Any]) -> None:
    await js.work("email-send")
    fleet: Running = await start_fleet()

    def told() -> bool:
        checks = {check.name: check.detail for check in fleet.service.checks()}
        return "1 worker of Node's" in checks["email-send"]

    await wait_until(told)

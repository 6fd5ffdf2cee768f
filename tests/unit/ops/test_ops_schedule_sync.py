"""The schedules of fleet.yaml are looked at once for each configuration, as soon as Redis answers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

import pytest

from tests.conftest import wait_until
from tests.unit.ops.service_contract import RULES, Rule, name
from workers.broker.reconnect import Reconnect
from workers.broker.schedulers import Found
from workers.ops.schedule_sync import ScheduleSync
from workers.queue_service import QueueUnavailableError
from workers.queue_service.reconcile import Step
from workers.queue_service.scheduling import ReconcileReport, Scheduling


class Schedules:
    """Reports, fails or hangs when told to."""

    def __init__(self) -> None:
        self.looks = 0
        self.errors: list[Exception] = []
        self.hangs = False
        self.report = ReconcileReport()

    async def reconcile(self) -> ReconcileReport:
        self.looks += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.hangs:
            await asyncio.Event().wait()
        return self.report


def sync(schedules: Schedules) -> ScheduleSync:
    return ScheduleSync(cast(Scheduling, schedules), reconnect=Reconnect(0.01, 0.02))


def step(action: Any, reason: str, *, is_notable: bool = False) -> Step:
    return Step(action=action, queue="q", id=f"s-{action}", reason=reason, found=Found(), is_notable=is_notable)


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_it_is_a_service(rule: Rule) -> None:
    await rule(lambda: sync(Schedules()))


async def test_looks_once_and_again_when_it_is_asked() -> None:
    schedules = Schedules()
    service = sync(schedules)
    await service.start()
    await wait_until(lambda: schedules.looks == 1)
    assert service.health().detail == "none"
    service.ask()
    await wait_until(lambda: schedules.looks == 2)
    await service.stop(by=time.monotonic() + 5)
    assert schedules.looks == 2


async def test_outage_is_said_once_and_outlived(caplog: pytest.LogCaptureFixture) -> None:
    schedules = Schedules()
    schedules.errors = [QueueUnavailableError("queue q: away"), QueueUnavailableError("queue q: away")]
    service = sync(schedules)
    await service.start()
    await wait_until(lambda: schedules.looks == 3)
    await service.stop(by=time.monotonic() + 5)
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["the schedules of fleet.yaml are not looked at yet: queue q: away; trying again"]


async def test_defect_of_ours_is_logged_whole_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    schedules = Schedules()
    schedules.errors = [ZeroDivisionError("oh")]
    service = sync(schedules)
    await service.start()
    await wait_until(lambda: schedules.looks == 2)
    await service.stop(by=time.monotonic() + 5)
    assert "ZeroDivisionError: oh" in caplog.text


async def test_what_somebody_should_know_is_said(caplog: pytest.LogCaptureFixture) -> None:
    schedules = Schedules()
    steps = (step("add", "it is new"), step("update", "changed", is_notable=True), step("remove", "gone"))
    schedules.report = ReconcileReport(steps, {("q", "s-remove"): "others write it at the same time"})
    service = sync(schedules)
    with caplog.at_level(logging.INFO):
        await service.start()
        await wait_until(lambda: "schedules of fleet.yaml" in caplog.text)
        await service.stop(by=time.monotonic() + 5)
    assert [record.message for record in caplog.records if record.name.endswith("schedule_sync")] == [
        "schedule s-update of queue q: changed",
        "schedule s-remove of queue q was not written: others write it at the same time",
        "schedules of fleet.yaml: 1 added, 1 updated, 1 not written",
    ]


async def test_look_that_hangs_does_not_delay_the_end() -> None:
    schedules = Schedules()
    schedules.hangs = True
    service = sync(schedules)
    await service.start()
    await wait_until(lambda: schedules.looks == 1)
    async with asyncio.timeout(20):
        await service.stop(by=time.monotonic() + 10)
    assert not service.health().ok

"""The lag of the event loop is seen, reported and told."""

from __future__ import annotations

import time

import pytest

from tests.conftest import wait_until
from tests.unit.ops.service_contract import RULES, Rule, name, soon
from workers.telemetry.loop_lag import LoopLag


@pytest.mark.parametrize("rule", RULES, ids=name)
async def test_keeps_the_service_contract(rule: Rule) -> None:
    await rule(lambda: LoopLag(lambda lag: None, interval_s=0.01))


async def test_a_blocked_loop_is_reported_and_forgotten_after_the_window() -> None:
    reports: list[float] = []
    lag = LoopLag(reports.append, interval_s=0.01, window_s=0.05)
    await lag.start()
    await wait_until(lambda: reports)
    time.sleep(0.3)  # noqa: ASYNC251  # blocks the loop, as a slow regex would
    await wait_until(lambda: lag.worst_s > 0.2)
    await wait_until(lambda: len(reports) > 1 and lag.worst_s < 0.2)
    await lag.stop(by=soon())
    assert sum(report > 0.2 for report in reports) >= 5, "a scrape between two measurements would miss it"


async def test_a_loop_without_a_turn_is_stuck() -> None:
    now = 100.0
    lag = LoopLag(lambda lag: None, interval_s=60.0, stuck_after_s=30.0, clock=lambda: now)
    await lag.start()
    assert lag.health().ok
    now = 131.0
    assert not lag.health().ok
    assert lag.health().detail == "no turn for 31.0 s"
    await lag.stop(by=soon())


async def test_a_report_that_raises_is_told_once_and_measuring_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def report(lag: float) -> None:
        nonlocal calls
        calls += 1
        raise OSError("disk full")

    lag = LoopLag(report, interval_s=0.001)
    await lag.start()
    await wait_until(lambda: calls >= 3)
    assert lag.health().ok
    await lag.stop(by=soon())
    assert len(caplog.records) == 1


async def test_services_beside_it_start_and_stop_with_it() -> None:
    beside = LoopLag(lambda lag: None)
    lag = LoopLag(lambda lag: None, beside=[beside])
    assert not beside.health().ok
    await lag.start()
    assert beside.health().ok
    await lag.stop(by=soon())
    assert not beside.health().ok

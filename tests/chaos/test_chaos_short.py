"""`make chaos` for as long as CI can wait: nothing is lost, nothing ends twice."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.chaos.report import page
from tests.chaos.run import ChaosRun, Outcome, Plan

log = logging.getLogger(__name__)

#: One seed, so that a failure is no matter of luck with the draw; how the faults fall together differs all the same.
SEED = 20_261_124


async def run(plan: Plan, folder: Path) -> Outcome:
    return await ChaosRun(plan, folder, log.info).run()


@pytest.mark.node
@pytest.mark.timeout(150)
async def test_nothing_is_lost_whatever_happens_to_processes_network_and_redis(tmp_path: Path) -> None:
    outcome = await run(Plan(seed=SEED, seconds=50.0, rest_s=50.0), tmp_path)
    assert not outcome.wrong, page(outcome)
    assert outcome.verdict.added > 200
    assert outcome.verdict.restarted  # jobs were interrupted, and each was done all the same
    assert outcome.faults.total() > 10


@pytest.mark.node
@pytest.mark.timeout(100)
async def test_broken_connections_alone_interrupt_no_job(tmp_path: Path) -> None:
    plan = Plan(seed=SEED, seconds=25.0, only=("break exchange", "cut", "reset"), rest_s=30.0)
    outcome = await run(plan, tmp_path)
    assert not outcome.wrong, page(outcome)
    assert outcome.breaks > 3
    assert (outcome.verdict.restarted, outcome.verdict.extra, outcome.verdict.stalled) == (0, 0, 0), page(outcome)

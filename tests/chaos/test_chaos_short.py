"""`make chaos` for as long as CI can wait: nothing is lost, nothing ends twice, and hostile jobs end, too."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from tests.chaos.hostility import ACTS, LONGEST
from tests.chaos.mischief import NAMES
from tests.chaos.report import lateness, page
from tests.chaos.run import ChaosRun, Outcome, Plan

log = logging.getLogger(__name__)

#: One seed, so that a failure is no matter of luck with the draw; how the faults fall together differs all the same.
SEED = 20_261_124
#: So that most acts come once in the ten seconds that a short run has for them.
HOSTILE_EVERY_S = 0.7
#: Of everything but the act that is in the next test, and takes three deaths.
ALL = tuple(name for name in (*NAMES, *ACTS) if name != LONGEST)


async def run(plan: Plan, folder: Path) -> Outcome:
    return await ChaosRun(plan, folder, log.info).run()


def tell(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    """How late the neighbours of hostile jobs were: a number to look at, and no assertion."""
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"== seed {outcome.plan.seed}", *lateness(outcome.late_s), ""]))


@pytest.mark.node
@pytest.mark.timeout(240)
async def test_nothing_is_lost_whatever_happens_to_processes_network_and_redis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = await run(Plan(seed=SEED, seconds=30.0, only=ALL, rest_s=60.0), tmp_path)
    assert not outcome.wrong, page(outcome)
    assert outcome.verdict.added > 200
    assert outcome.verdict.restarted  # jobs were interrupted, and each was done all the same
    assert outcome.faults.total() > 10
    assert outcome.hostile.added
    tell(outcome, capsys)


@pytest.mark.node
@pytest.mark.timeout(240)
async def test_nothing_is_lost_beside_jobs_that_block_kill_and_exhaust_their_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(seed=SEED, seconds=18.0, only=tuple(ACTS), hostile_every_s=HOSTILE_EVERY_S, rest_s=60.0)
    outcome = await run(plan, tmp_path)
    assert not outcome.wrong, page(outcome)
    assert outcome.hostile.added > 3
    assert outcome.hostile.ends[LONGEST]["quarantined"] == 1
    assert not outcome.faults
    tell(outcome, capsys)


@pytest.mark.node
@pytest.mark.timeout(180)
async def test_broken_connections_alone_interrupt_no_job(tmp_path: Path) -> None:
    plan = Plan(seed=SEED, seconds=12.0, only=("break exchange", "cut", "reset"), rest_s=30.0)
    outcome = await run(plan, tmp_path)
    assert not outcome.wrong, page(outcome)
    assert outcome.breaks
    assert (outcome.verdict.restarted, outcome.verdict.extra, outcome.verdict.stalled) == (0, 0, 0), page(outcome)

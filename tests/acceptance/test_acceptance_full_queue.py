"""A queue with more waiting than its limit says so in health and metrics, and goes on being served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.conftest import QUEUE, Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.conftest import wait_until


@pytest.mark.parametrize("mode", ["--single-process", "supervised"])
async def test_full_queue_is_told_and_stays_ready(
    start_fleet: StartFleet, jobs: Jobs, tmp_path: Path, mode: str
) -> None:
    overlay = tmp_path / "limits.yaml"
    overlay.write_text(f"queues: {{{QUEUE}: {{limits: {{depth: 3}}}}}}\n")
    await jobs.queue.pause()
    arguments = ["--queues", QUEUE, "--overlay", str(overlay)] + [mode] * mode.startswith("--")
    added = [await jobs.add(mail()) for _ in range(4)]
    fleet = await start_fleet(*arguments).ready()
    await wait_until(lambda: seen(fleet) == (4, 1), timeout_s=30.0)
    told = [check for name, check in fleet.probe("readyz")[1].items() if name.endswith(QUEUE)]
    assert told and all(ok and "; full: 4 waiting, limit 3; the queue is paused" in detail for ok, detail in told)
    assert fleet.is_ready
    age_s = fleet.metric("bullmq_queue_oldest_waiting_age_seconds", queue=QUEUE)
    assert age_s is not None and 0 <= age_s < 60
    await jobs.queue.resume()
    await jobs.reach("completed", *added)
    await wait_until(lambda: seen(fleet) == (0, 0), timeout_s=30.0)
    assert fleet.metric("bullmq_job_count", queue=QUEUE, state="completed") == 4
    assert not any("full" in detail for _, detail in fleet.probe("readyz")[1].values())
    assert await asyncio.wait_for(fleet.terminate(), 30) == 0


def seen(fleet: FleetCommand) -> tuple[float | None, float | None]:
    """How many jobs wait, and whether that is too many."""
    waiting = fleet.metric("bullmq_job_count", queue=QUEUE, state="waiting")
    return waiting, fleet.metric("fleet_queue_full", queue=QUEUE)

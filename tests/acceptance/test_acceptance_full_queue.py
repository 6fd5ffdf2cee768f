"""A queue with more waiting than its limit says so in health and metrics, and goes on being served."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue

from tests.acceptance.conftest import QUEUE, Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.conftest import wait_until

MODULES = Path(__file__).parent / "modules"


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


@pytest.mark.parametrize("mode", ["--single-process", "supervised"])
async def test_jobs_add_to_a_queue_of_another_pool_until_it_is_full(
    start_fleet: StartFleet, jobs: Jobs, redis_url: str, prefix: str, tmp_path: Path, mode: str
) -> None:
    """And when the limit is taken away by a reload, they add to it again."""
    overlay = tmp_path / "limits.yaml"
    invitation = "invitation: {pool: data, module: adds_mails, concurrency: 1, task: {timeout: 30s}}"
    overlay.write_text(f"queues: {{{QUEUE}: {{limits: {{depth: 5}}}}, {invitation}}}\n")
    await jobs.queue.pause()
    arguments = ["--overlay", str(overlay)] + [mode] * mode.startswith("--")
    fleet = await start_fleet(*arguments, env={"PYTHONPATH": str(MODULES)}).ready()
    invitations = Queue("invitation", {"connection": redis_url, "prefix": prefix})

    async def result(task_id: str) -> dict[str, Any]:
        job = await invitations.add("invitation", {"type": "invitation", "id": task_id, "mails": 40})
        key = f"{prefix}:invitation:{job.id}"

        async def finished() -> Any:
            return bool(await jobs.redis.hexists(key, "finishedOn"))

        await wait_until(finished, timeout_s=30.0)
        value: dict[str, Any] = json.loads(await jobs.redis.hget(key, "returnvalue") or "{}")
        return value

    try:
        first = await result("first")
        assert 5 <= first["added"] < 40
        assert f"queue {QUEUE} is full" in first["refused"]
        assert f"(queues.{QUEUE}.limits.depth)" in first["refused"]
        if mode == "supervised":
            overlay.write_text(f"queues: {{{invitation}}}\n")
            fleet.send(signal.SIGHUP)
            await wait_until(lambda: fleet.metric("fleet_queue_full", queue=QUEUE) == 0, timeout_s=30.0)
            recycled = {"pool": "data", "reason": "config"}
            await wait_until(lambda: fleet.metric("fleet_process_recycles_total", **recycled) == 1, timeout_s=40.0)
            assert await result("second") == {"added": 40, "refused": None}
    finally:
        await invitations.close()
    await jobs.queue.resume()
    assert await asyncio.wait_for(fleet.terminate(), 40) == 0


def seen(fleet: FleetCommand) -> tuple[float | None, float | None]:
    """How many jobs wait, and whether that is too many."""
    waiting = fleet.metric("bullmq_job_count", queue=QUEUE, state="waiting")
    return waiting, fleet.metric("fleet_queue_full", queue=QUEUE)

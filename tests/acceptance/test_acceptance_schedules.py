"""Schedules of fleet.yaml, from the file to the mails, over a reload and a restart."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import QUEUE, Jobs, StartFleet
from tests.conftest import wait_until

ENTRY = "{queue: email-send, every: 300ms, data: {to: [a@example.com], subject: tick, text: tock}}"


@pytest.mark.parametrize("mode", ["--single-process", "supervised"])
async def test_schedule_of_the_file_sends_mails_until_it_is_gone(
    start_fleet: StartFleet, jobs: Jobs, tmp_path: Path, mode: str
) -> None:
    overlay = tmp_path / "own.yaml"
    overlay.write_text(
        f"schedules:\n  tick: {ENTRY}\n  later: {{queue: email-send, cron: 0 3 1 1 *, data: "
        "{to: [a@example.com], subject: a, text: b}}\n"
    )
    await jobs.queue.upsertJobScheduler("theirs", {"every": 3_600_000, "startDate": 1_999_999_999_000}, "n", {})
    arguments = ["--queues", QUEUE, "--overlay", str(overlay), "--set", "api.enabled=false"] + [mode] * mode.startswith(
        "--"
    )
    fleet = await start_fleet(*arguments).ready()
    await wait_until(lambda: sent(fleet) >= 3, timeout_s=30.0)
    (said,) = await fleet.says("^schedules of fleet.yaml: ")
    assert said == "schedules of fleet.yaml: 2 added"
    assert await keys(jobs) == {"tick", "later", "theirs"}
    overlay.write_text("schedules: {}\n")
    if mode == "supervised":
        fleet.send(signal.SIGHUP)
    else:
        assert await asyncio.wait_for(fleet.terminate(), 30) == 0
        fleet = await start_fleet(*arguments).ready()

    async def gone() -> Any:
        return await keys(jobs) == {"theirs"}

    await wait_until(gone, timeout_s=30.0)
    assert not await jobs.queue.isPaused()
    assert await asyncio.wait_for(fleet.terminate(), 30) == 0
    assert not await jobs.queue.isPaused(), "our own end pauses nobody"


async def test_wrong_schedule_is_refused_with_its_place(start_command: StartFleet, tmp_path: Path) -> None:
    overlay = tmp_path / "own.yaml"
    overlay.write_text("schedules:\n  tick: {queue: email-send, cron: 0 25 * * *, data: {to: []}}\n")
    command = start_command("config", "check", "--overlay", str(overlay))
    assert await command.exit_code() == 2
    assert "own.yaml:2:29: schedules.tick.cron: expected a cron expression" in command.text


def sent(fleet: Any) -> float:
    return float(fleet.metric("bullmq_job_count", queue=QUEUE, state="completed") or 0)


async def keys(jobs: Jobs) -> set[str]:
    return {str(each["key"]) for each in await jobs.queue.getJobSchedulers()}

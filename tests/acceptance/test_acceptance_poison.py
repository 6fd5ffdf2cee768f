"""A job that kills its process each time: it ends as poison, and whatever ran beside it is done."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.mail_host import MailHost
from tests.conftest import wait_until

MODULES = Path(__file__).parent / "modules"
OVERLAY = """
queues:
  risky:
    pool: communication
    module: kills_its_process
    concurrency: 5
    deaths: 2
    task: {timeout: 30s}
"""


BLOCKED = """
pools: {communication: {processes: 2}}
queues:
  risky: {lock: 3s, task: {timeout: 1s}}
"""


async def test_poison_job_fails_after_its_deaths_and_healthy_jobs_beside_it_complete(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, redis: Redis, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    overlay = tmp_path / "risky.yaml"
    overlay.write_text(OVERLAY)
    fleet = await start_fleet("--overlay", str(overlay), env={"PYTHONPATH": str(MODULES)}).ready()
    queue = Queue("risky", {"connection": redis_url, "prefix": prefix})

    async def add(job_id: str, **fields: Any) -> None:
        await queue.add("risky", {"type": "risky", "id": job_id, **fields}, {"jobId": job_id, "attempts": 9})

    async def row(job_id: str) -> dict[str, str]:
        found: Any = await redis.hgetall(f"{prefix}:risky:{job_id}")
        return dict(found)

    async def finished(job_id: str) -> bool:
        return "finishedOn" in await row(job_id)

    # One of the healthy ones is under way whenever the poison kills, and is as suspect as that is.
    await add("poison", kills=True, seconds=0.2)
    await add("healthy-long", seconds=1.0)
    healthy = ["healthy-long", *(f"healthy-{number}" for number in range(3))]
    for job_id in healthy[1:]:
        await add(job_id, seconds=0.1)
    mails: list[str] = []

    async def healthy_ones_finished() -> bool:
        return all([await finished(job_id) for job_id in healthy])

    all_finished: Callable[[], bool | Awaitable[bool]] = healthy_ones_finished
    while not await finished("poison"):
        mails.append(await jobs.add(mail()))
        await asyncio.sleep(0.1)
    await jobs.reach("completed", *mails, timeout_s=30)

    poison = await row("poison")
    assert poison["failedReason"] == "poison: its process died 2 times while it ran (last: SIGKILL)"
    assert (poison.get("stc"), poison["ats"], poison["atm"]) == (None, "3", "1")
    assert await queue.getJobState("poison") == "failed"
    await wait_until(all_finished, timeout_s=30.0)
    for job_id in healthy:
        assert await queue.getJobState(job_id) == "completed", await row(job_id)
    # A mail that was on its way in a process that is killed is sent again by the next run, and by nothing else.
    sent, starts = Counter(mail_host.recipients()), 0
    for job_id in mails:
        told = await jobs.row(job_id)
        (reader,) = json.loads(told["data"])["to"]
        assert 1 <= sent.pop(reader) <= int(told["ats"]), f"{reader}: more mails than starts"
        starts += int(told["ats"]) - 1
    assert not sent
    assert starts <= 2 * 5, "two processes died, with five slots for mails each"
    assert len(fleet.said(r"^process communication-0 died \(SIGKILL\); restarting it in ")) == 2
    assert fleet.said(r"^job poison of risky is poison: its process died too often \(SIGKILL\)$")
    await wait_until(lambda: fleet.is_ready)
    assert fleet.metric("fleet_jobs_quarantined_total", queue="risky") == 1
    assert fleet.metric("fleet_jobs_quarantined_total", queue="email-send") == 0
    assert fleet.metric("fleet_process_deaths_total", pool="communication", reason="SIGKILL") == 2
    await wait_until(lambda: fleet.metric("fleet_processes", pool="communication", state="ready") == 1)
    await queue.close()
    assert await fleet.terminate() == 0


@pytest.mark.parametrize(
    ("act", "death"),
    [
        ("blocks", r"SIGKILL after \d+ s of silence"),  # from its first moment on, and with a lock that is short
        ("closes", r"exit code \d+|SIGABRT"),  # not by a signal of ours that has lost its handler
    ],
)
async def test_job_that_blocks_or_breaks_its_process_at_once_is_poison_too(
    start_fleet: StartFleet, redis: Redis, redis_url: str, prefix: str, tmp_path: Path, act: str, death: str
) -> None:
    """It waits before the fleet starts, so that it is the first thing that each process does."""
    overlays = {"risky.yaml": OVERLAY, "blocked.yaml": BLOCKED}
    for name, text in overlays.items():
        (tmp_path / name).write_text(text)
    queue = Queue("risky", {"connection": redis_url, "prefix": prefix})
    await queue.add("risky", {"type": "risky", "id": "bad", act: True}, {"jobId": "bad", "attempts": 9})

    async def row() -> dict[str, str]:
        found: Any = await redis.hgetall(f"{prefix}:risky:bad")
        return dict(found)

    async def finished() -> bool:
        return "finishedOn" in await row()

    is_finished: Callable[[], bool | Awaitable[bool]] = finished
    named = [word for name in overlays for word in ("--overlay", str(tmp_path / name))]
    fleet = start_fleet(*named, env={"PYTHONPATH": str(MODULES)})
    await wait_until(is_finished, timeout_s=120.0)
    failed = await row()
    assert re.fullmatch(rf"poison: its process died 2 times while it ran \(last: ({death})\)", failed["failedReason"])
    assert (failed.get("stc"), failed["ats"], failed["atm"]) == (None, "3", "1")
    await fleet.ready()
    await queue.close()
    assert await fleet.terminate() == 0

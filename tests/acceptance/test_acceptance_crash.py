"""kill -9: no job is lost with its process, and no process outlives its supervisor."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.mail_host import HOLD, MailHost
from tests.conftest import wait_until

ALL = {"queue": "email-send", "task_type": "email-send"}


async def test_killed_process_is_restarted_and_its_job_is_delivered(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    mail_host.answers["held@example.com"].append(HOLD)
    # Whoever finds the job, finds it soon: the stalled check comes twice within a lock.
    fleet = await start_fleet("--set", "queues.email-send.lock=2s").ready()
    before = await jobs.add(mail("before@example.com"))
    await jobs.reach("completed", before)
    job = await jobs.add(mail("held@example.com"))
    await wait_until(lambda: "held@example.com" in mail_host.begun)
    (victim,) = fleet.pool_processes()

    victim.kill()

    await wait_until(lambda: fleet.probe("readyz")[0] is False)
    assert fleet.probe("livez")[0] is True
    await jobs.reach("completed", job)
    assert fleet.said(r"^process communication-0 died \(SIGKILL\); restarting it in 0\.5 s$")
    row = await jobs.row(job)
    assert (row.get("stc"), row["ats"], row["atm"]) == (None, "2", "1")  # a known death is no stall
    # Its SMTP conversation died with the process, before the server had accepted the mail.
    assert mail_host.recipients() == ["before@example.com", "held@example.com"]
    await wait_until(lambda: fleet.is_ready)
    (successor,) = fleet.pool_processes()
    assert successor.pid != victim.pid
    # What the dead process had counted is still counted.
    assert fleet.metric("bullmq_worker_jobs_total", outcome="completed", **ALL) == 2
    assert fleet.metric("bullmq_worker_concurrency", queue="email-send") == 5
    assert await fleet.terminate() == 0


async def test_job_of_a_fleet_killed_as_a_whole_is_found_stalled_and_delivered_by_the_next_one(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    mail_host.answers["held@example.com"].append(HOLD)
    first = await start_fleet("--single-process", "--set", "queues.email-send.lock=2s").ready()
    job = await jobs.add(mail("held@example.com"))
    await wait_until(lambda: mail_host.begun == ["held@example.com"])

    assert await first.terminate(signal.SIGKILL) == -signal.SIGKILL

    following = await start_fleet("--single-process", "--set", "queues.email-send.lock=2s").ready()
    await jobs.reach("completed", job)
    assert [record["job_id"] for record in following.records() if record["event"] == "job stalled"] == [job]
    assert following.metric("bullmq_job_stalled_total", queue="email-send") == 1
    row = await jobs.row(job)
    assert (row["stc"], row["ats"], row["atm"]) == ("1", "2", "1")
    assert mail_host.recipients() == ["held@example.com"]
    assert await following.terminate() == 0


async def test_processes_of_a_killed_supervisor_finish_their_jobs_and_end(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    mail_host.answers["held@example.com"].append(HOLD)
    fleet = await start_fleet("--set", "pools.communication.processes=2").ready()
    processes = fleet.pool_processes()
    job = await jobs.add(mail("held@example.com"))
    await wait_until(lambda: mail_host.begun == ["held@example.com"])

    fleet.send(signal.SIGKILL)

    # The idle one ends at once, the other one when its mail has been accepted.
    await wait_until(lambda: _ended(processes) == 1)
    assert await jobs.state(job) == "active"
    mail_host.release()
    await wait_until(lambda: _ended(processes) == 2)
    assert await fleet.exit_code() == -signal.SIGKILL
    assert len(fleet.said(r"^the supervisor is gone: draining, at most \d+ s$")) == 2
    assert await jobs.state(job) == "completed"
    assert mail_host.recipients() == ["held@example.com"]


RISKY = """
queues:
  risky:
    pool: communication
    module: kills_its_process
    concurrency: 1
    task: {{isolation: {isolation}, timeout: 1h}}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell who is whose elsewhere")
@pytest.mark.parametrize("isolation", ["async", "process"])
async def test_what_a_job_has_started_ends_with_its_process(
    start_fleet: StartFleet, redis: Redis, redis_url: str, prefix: str, tmp_path: Path, isolation: str
) -> None:
    overlay = tmp_path / "risky.yaml"
    overlay.write_text(RISKY.format(isolation=isolation))
    modules = str(Path(__file__).parent / "modules")
    fleet = await start_fleet("--overlay", str(overlay), env={"PYTHONPATH": modules}).ready()
    queue = Queue("risky", {"connection": redis_url, "prefix": prefix})
    job = await queue.add("risky", {"type": "risky", "id": "a", "starts": True})

    async def sleeper() -> int:
        told: Any = await redis.hget(f"{prefix}:risky:{job.id}", "progress")
        return int(json.loads(told)["pid"]) if told and told != "0" else 0

    async def another() -> bool:
        return await sleeper() != first

    first = 0
    started: Callable[[], bool | Awaitable[bool]] = another
    await wait_until(started)
    first = await sleeper()
    (victim,) = fleet.pool_processes()
    family = victim.children(recursive=True)
    assert first in [each.pid for each in family]

    victim.kill()

    await wait_until(lambda: _ended(family) == len(family))
    # The job runs again, and what it starts then is let be until the drain.
    await wait_until(started)
    second = psutil.Process(await sleeper())
    await wait_until(lambda: fleet.is_ready)
    assert second.is_running()
    fleet.send(signal.SIGTERM)
    fleet.send(signal.SIGTERM)
    await fleet.exit_code()
    assert _ended([second]) == 1
    await queue.close()


def _ended(processes: list[psutil.Process]) -> int:
    """How many have ended; who adopted them may be slow to take notice."""
    return sum(not process.is_running() or process.status() == psutil.STATUS_ZOMBIE for process in processes)

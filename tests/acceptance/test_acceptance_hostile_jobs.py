"""Jobs that lay hands on their process: what their neighbours do is done, logged and drained as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.mail_host import MailHost
from tests.conftest import wait_until
from tests.hostile.rig import MODULES

HOME = {"PYTHONPATH": str(Path(__file__).parents[2])}
MODES = pytest.mark.parametrize("mode", ["--single-process", "supervised"])


class HostileJobs:
    """The queue `hostile`, whose jobs run in the process of the mails."""

    def __init__(self, redis: Redis, url: str, prefix: str) -> None:
        self._redis, self._prefix = redis, prefix
        self.queue = Queue("hostile", {"connection": url, "prefix": prefix})

    async def ended(self, act: str) -> dict[str, str]:
        """Add a job and wait for its end; its row."""
        job = await self.queue.add("hostile", {"type": "hostile", "id": "1", "act": act}, {"attempts": 1})
        key = f"{self._prefix}:hostile:{job.id}"

        async def over() -> Any:
            return bool(await self._redis.hexists(key, "finishedOn"))

        await wait_until(over, timeout_s=30.0)
        row: Any = await self._redis.hgetall(key)
        return dict(row)


def arguments(tmp_path: Path, flavour: str, mode: str) -> list[str]:
    overlay = tmp_path / "hostile.yaml"
    entry = f"pool: communication, module: {MODULES[flavour].__name__}, concurrency: 2, task: {{timeout: 2s}}"
    overlay.write_text(f"queues: {{hostile: {{{entry}}}}}\n")
    return ["--overlay", str(overlay)] + [mode] * mode.startswith("--")


@MODES
@pytest.mark.parametrize("flavour", ["async", "sync"])
async def test_streams_that_a_job_closes_are_put_back(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, redis: Redis, redis_url: str, prefix: str, tmp_path: Path,
    flavour: str, mode: str,
) -> None:  # fmt: skip
    fleet = await start_fleet(*arguments(tmp_path, flavour, mode), env=HOME).ready()
    hostile = HostileJobs(redis, redis_url, prefix)
    mail_host.refuse["gone@example.com"] = "550 5.1.1 no such user"
    try:
        assert "failedReason" not in await hostile.ended("closes_standard_streams")
        gone = await jobs.add(mail("gone@example.com"))
        await jobs.reach("failed", gone)
        await fleet.says("which is put back$")
        assert [record["job_id"] for record in fleet.records(level="error") if "job_id" in record] == [gone]
        assert "failedReason" not in await hostile.ended("closes_standard_streams")
        await jobs.reach("completed", await jobs.add(mail("here@example.com")))
    finally:
        await hostile.queue.close()
    assert await fleet.terminate() == 0


@MODES
async def test_job_that_takes_the_signal_handlers_and_hears_nothing_does_not_hold_up_the_end(
    start_fleet: StartFleet, jobs: Jobs, redis: Redis, redis_url: str, prefix: str, tmp_path: Path, mode: str
) -> None:
    fleet = await start_fleet(*arguments(tmp_path, "async", mode), env=HOME).ready()
    hostile = HostileJobs(redis, redis_url, prefix)
    try:
        assert "timed out after" in (await hostile.ended("ignores_everything"))["failedReason"]
    finally:
        await hostile.queue.close()
    await fleet.says("has set a handler of its own for SIGTERM")
    await jobs.reach("completed", await jobs.add(mail("here@example.com")))
    assert await fleet.terminate() == 0

"""Redis that is not there yet, goes away, comes back, locks us out, or must not be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.acceptance.mail_host import MailHost
from tests.conftest import Server, wait_until

PASSWORD = "pepper-and-salt"


def _single(start_command: StartFleet, url: str, smtp: str = "", *arguments: str) -> FleetCommand:
    env = {"REDIS_URL": url, **({"SMTP_URL": smtp} if smtp else {})}
    return start_command("run", "--single-process", *arguments, env=env)


async def test_fleet_waits_for_redis_and_outlives_its_absence(
    start_command: StartFleet, mail_host: MailHost, tmp_path: Path
) -> None:
    server = Server(tmp_path, "--appendonly", "yes", "--requirepass", PASSWORD)
    url = server.url.replace("redis://", f"redis://default:{PASSWORD}@")
    fleet = _single(start_command, url, mail_host.url)
    where = f"redis://127.0.0.1:{server.port}/0"

    # Not there yet: alive, not ready, not started, and saying so.
    await fleet.says("trying again", times=2)
    assert fleet.probe("livez")[0] is True
    ready, checks = fleet.probe("readyz")
    assert ready is False
    assert checks["redis"][0] is False
    assert checks["redis"][1].startswith(f"{where} does not answer (")
    assert checks["email-send"] == (False, "not open yet")
    started, checks = fleet.probe("startupz")
    assert (started, checks["opened"]) == (False, (False, "not yet"))
    (first, *_) = fleet.said("does not answer")
    assert first.startswith(f"{where} does not answer (")
    assert first.endswith(" s (redis.url)")

    server.start()
    try:
        await wait_until(lambda: fleet.is_ready)
        assert fleet.probe("startupz")[0] is True

        # Away in the middle: the running job runs on, and its ending is written when Redis is back.
        async with Redis.from_url(url, decode_responses=True, protocol=2) as redis:
            jobs = Jobs(redis, url, "bull")
            mail_host.answers["held@example.com"].append("hold")
            held = await jobs.add(mail("held@example.com"))
            await wait_until(lambda: mail_host.begun == ["held@example.com"])
            server.stop()
            await wait_until(lambda: fleet.probe("readyz")[0] is False)
            assert fleet.probe("readyz")[1]["redis"] == (False, f"{where} does not answer")
            assert fleet.probe("livez")[0] is True
            assert fleet.probe("startupz")[0] is True
            mail_host.release()
            await wait_until(lambda: mail_host.recipients() == ["held@example.com"])

            server.start()
            await wait_until(lambda: fleet.is_ready)
            await jobs.reach("completed", held)
            after = await jobs.add(mail("after@example.com"))
            await jobs.reach("completed", after)
            await jobs.queue.close()
        assert mail_host.recipients() == ["held@example.com", "after@example.com"]
        assert fleet.metric("bullmq_redis_up", queue="email-send") == 1
        assert await fleet.terminate() == 0
        assert PASSWORD not in fleet.text
    finally:
        server.stop()


async def test_fleet_that_never_saw_redis_ends_cleanly(start_command: StartFleet, tmp_path: Path) -> None:
    fleets = [
        start_command("run", *mode, env={"REDIS_URL": Server(tmp_path).url}) for mode in ((), ("--single-process",))
    ]
    for fleet in fleets:
        await fleet.says("trying again")
        assert await fleet.terminate() == 0


async def test_wrong_password_is_said_without_the_password(
    start_command: StartFleet, make_server: Callable[..., Server]
) -> None:
    server = make_server("--appendonly", "no", "--requirepass", PASSWORD)
    fleet = _single(start_command, server.url.replace("redis://", "redis://:not-the-pepper@"))
    await fleet.says("invalid username-password pair")
    assert fleet.probe("readyz")[0] is False
    assert fleet.probe("livez")[0] is True
    assert await fleet.terminate() == 0
    assert "not-the-pepper" not in fleet.text


async def test_server_that_evicts_keys_is_refused_unless_allowed(
    start_command: StartFleet, make_server: Callable[..., Server]
) -> None:
    server = make_server("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    refused = [_single(start_command, server.url), start_command("run", env={"REDIS_URL": server.url})]
    allowed = _single(start_command, server.url, "", "--set", "redis.allow_eviction=true")
    for fleet in refused:
        assert await fleet.exit_code() == 78
        (line, *more) = [record["event"] for record in fleet.records(level="error")]
        assert line == (
            "Redis may evict keys (maxmemory-policy is allkeys-lru), so jobs can vanish: set maxmemory-policy "
            "noeviction on the server, or redis.allow_eviction: true to run all the same"
        )
        assert more == ([] if fleet is refused[0] else ["process communication-0 refused to start"])
        assert "Traceback" not in fleet.text
    await allowed.ready()
    assert await allowed.terminate() == 0
    await _nothing_was_touched(server)


async def _nothing_was_touched(server: Server) -> None:
    async with Redis.from_url(server.url, decode_responses=True, protocol=2) as redis:
        keys = {str(key).split(":")[1] async for key in redis.scan_iter()}
    assert keys <= {"email-send"}


@pytest.mark.parametrize("mode", [("--single-process",), ()], ids=["single", "supervised"])
async def test_url_that_cannot_be_read_is_a_usage_error(start_command: StartFleet, mode: tuple[str, ...]) -> None:
    fleet = start_command("run", *mode, env={"REDIS_URL": f"redis://default:{PASSWORD}@127.0.0.1:notaport/0"})
    assert await fleet.exit_code() == 2
    assert "redis.url" in fleet.text
    assert "Traceback" not in fleet.text
    assert PASSWORD not in fleet.text

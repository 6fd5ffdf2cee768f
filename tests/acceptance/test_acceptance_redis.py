"""Redis that is not there yet, goes away, comes back, locks us out, or must not be used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.acceptance.mail_host import HOLD, MailHost
from tests.conftest import Server, wait_until

PASSWORD = "pepper-and-salt"


def _single(start_command: StartFleet, url: str, smtp: str = "", *arguments: str) -> FleetCommand:
    env = {"REDIS_URL": url, **({"SMTP_URL": smtp} if smtp else {})}
    return start_command("run", "--single-process", *arguments, env=env)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One with a password and a memory that outlives it. Not started."""
    server = Server(tmp_path, "--appendonly", "yes", "--requirepass", PASSWORD)
    yield server
    server.stop()


def _with_password(server: Server) -> str:
    return server.url.replace("redis://", f"redis://default:{PASSWORD}@")


@pytest.fixture
async def jobs(server: Server) -> AsyncIterator[Callable[[], Awaitable[Jobs]]]:
    """Connects to the server's queue, once it runs."""
    async with AsyncExitStack() as stack:

        async def connect() -> Jobs:
            url = _with_password(server)
            redis = await stack.enter_async_context(Redis.from_url(url, decode_responses=True, protocol=2))
            return await stack.enter_async_context(Jobs(redis, url, "bull"))

        yield connect


async def test_fleet_started_before_redis_says_so_and_gets_ready_by_itself(
    start_command: StartFleet, server: Server, jobs: Callable[[], Awaitable[Jobs]], mail_host: MailHost
) -> None:
    fleet = _single(start_command, _with_password(server), mail_host.url)
    said = await fleet.says("trying again", times=2)
    away = f"redis://127.0.0.1:{server.port}/0 does not answer ("
    assert all(line.startswith(away) and line.endswith(" s (redis.url)") for line in said)
    assert fleet.probe("livez")[0] is True
    ready, checks = fleet.probe("readyz")
    assert (ready, checks["redis"][0], checks["email-send"]) == (False, False, (False, "not open yet"))
    assert checks["redis"][1].startswith(away)
    assert fleet.probe("startupz") == (False, {"opened": (False, "not yet")})

    server.start()

    await fleet.ready()
    assert fleet.probe("startupz")[0] is True
    queue = await jobs()
    await queue.reach("completed", await queue.add(mail("dana@example.com")))
    assert mail_host.recipients() == ["dana@example.com"]
    assert await fleet.terminate() == 0
    assert PASSWORD not in fleet.text


async def test_job_that_runs_while_redis_is_away_ends_when_it_is_back_and_is_sent_once(
    start_command: StartFleet, server: Server, jobs: Callable[[], Awaitable[Jobs]], mail_host: MailHost
) -> None:
    server.start()
    fleet = await _single(start_command, _with_password(server), mail_host.url).ready()
    queue = await jobs()
    mail_host.answers["held@example.com"].append(HOLD)
    held = await queue.add(mail("held@example.com"))
    await wait_until(lambda: mail_host.begun == ["held@example.com"])

    server.stop()

    await wait_until(lambda: fleet.probe("readyz")[0] is False)
    assert fleet.probe("readyz")[1]["redis"] == (False, f"redis://127.0.0.1:{server.port}/0 does not answer")
    assert fleet.probe("livez")[0] is True
    assert fleet.probe("startupz")[0] is True
    mail_host.release()
    await wait_until(lambda: mail_host.recipients() == ["held@example.com"])

    server.start()

    await fleet.ready()
    await queue.reach("completed", held, await queue.add(mail("after@example.com")))
    assert mail_host.recipients() == ["held@example.com", "after@example.com"]
    assert fleet.metric("bullmq_redis_up", queue="email-send") == 1
    assert await fleet.terminate() == 0
    assert PASSWORD not in fleet.text


async def test_fleet_that_never_saw_redis_ends_cleanly(start_command: StartFleet, tmp_path: Path) -> None:
    fleets = [
        start_command("run", *mode, env={"REDIS_URL": Server(tmp_path).url}) for mode in ((), ("--single-process",))
    ]
    for fleet in fleets:
        await fleet.says("trying again")
        assert await fleet.terminate() == 0


async def test_refused_password_is_said_but_not_shown(
    start_command: StartFleet, make_server: Callable[..., Server]
) -> None:
    server = make_server("--appendonly", "no", "--requirepass", PASSWORD)
    fleet = _single(start_command, server.url.replace("redis://", "redis://:not-the-pepper@"))
    await fleet.says("username-password pair")
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

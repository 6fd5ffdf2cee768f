"""The `fleet` command beside a real Valkey and a real mail server. Every process that a test starts ends with it."""

from __future__ import annotations

import itertools
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import pytest
from bullmq import Queue
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from tests.acceptance.fleet_command import FleetCommand, environment
from tests.acceptance.mail_host import MailHost
from tests.conftest import Server, wait_until

QUEUE = "email-send"
#: Stands in the subject and in both bodies of each mail: no log may hold it.
CONFIDENTIAL = "the-reset-code-is-8f3c51"
_numbers = itertools.count()


def mail(*to: str, **fields: Any) -> dict[str, Any]:
    """A job's data as Node writes it; what isn't given is harmless."""
    number = next(_numbers)
    return {
        "type": "email-send",
        "id": f"task-{number}",
        "to": list(to) or [f"reader-{number}@example.com"],
        "subject": f"Hello, {CONFIDENTIAL}",
        "text": f"Your code: {CONFIDENTIAL}",
        "html": f"<p>Your code: {CONFIDENTIAL}</p>",
        **fields,
    }


class Jobs:
    """The queue, seen from a producer."""

    def __init__(self, redis: Redis, url: str, prefix: str) -> None:
        self.redis = redis
        self.prefix = prefix
        self.queue = Queue(QUEUE, {"connection": url, "prefix": prefix})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.queue.close()

    async def add(self, data: Any, **opts: Any) -> str:
        job = await self.queue.add(QUEUE, data, opts)
        return str(job.id)

    def key(self, name: str) -> str:
        return f"{self.prefix}:{QUEUE}:{name}"

    async def row(self, job_id: str) -> dict[str, str]:
        """The job's hash."""
        row: Any = await self.redis.hgetall(self.key(job_id))
        return dict(row)

    async def result(self, job_id: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((await self.row(job_id))["returnvalue"])
        return result

    async def state(self, job_id: str) -> str:
        return str(await self.queue.getJobState(job_id))

    async def reach(self, state: str, *job_ids: str, timeout_s: float = 20.0) -> None:
        """Wait until all these jobs are in this state."""
        left = list(job_ids)

        async def all_there() -> bool:
            while left and await self.state(left[-1]) == state:
                left.pop()
            return not left

        condition: Callable[[], bool | Awaitable[bool]] = all_there
        try:
            await wait_until(condition, timeout_s=timeout_s, every_s=0.02)
        except AssertionError:
            row = await self.row(left[-1])
            raise AssertionError(f"{len(left)} not {state} within {timeout_s:g} s, the last one: {row}") from None


class StartFleet(Protocol):
    def __call__(
        self, *arguments: str, env: dict[str, str] | None = ..., cwd: Path | None = ..., script: Path | None = ...
    ) -> FleetCommand: ...


@pytest.fixture(scope="module")
def start_command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartFleet]:
    """Starts `python -m workers …`, which lives no longer than the module. No server is named to it."""
    started: list[FleetCommand] = []
    compiled = request.config.cache.mkdir("compiled")

    def start(
        *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None, script: Path | None = None
    ) -> FleetCommand:
        command = [str(script)] if script else [sys.executable, "-m", "workers"]
        folder = cwd or tmp_path_factory.mktemp("cwd")
        started.append(FleetCommand([*command, *arguments], env=environment(env or {}, compiled), cwd=folder))
        return started[-1]

    yield start
    for command in started:
        command.kill()


@dataclass
class Served:
    """A fleet that serves the tests of a module one after another."""

    fleet: FleetCommand
    prefix: str
    mail_host: MailHost


class Serve(Protocol):
    def __call__(self, *settings: str, login: tuple[str, str] | None = None) -> Served: ...


@pytest.fixture(scope="module")
def serve(start_command: StartFleet, valkey: Server) -> Iterator[Serve]:
    """Starts a fleet with a mail server and a key prefix of its own."""
    made: list[Served] = []

    def start(*settings: str, login: tuple[str, str] | None = None) -> Served:
        host = MailHost(login=login)
        host.start()
        prefix = f"module{uuid.uuid4().hex[:12]}"
        env = {"REDIS_URL": valkey.url, "FLEET__REDIS__PREFIX": prefix, "SMTP_URL": host.url}
        if login is not None:
            env |= {"SITE_EMAIL_USERNAME": login[0], "SITE_EMAIL_PASSWORD": login[1]}
        made.append(Served(start_command("run", "--single-process", *settings, env=env), prefix, host))
        return made[-1]

    yield start
    for served in made:
        served.fleet.kill()
        served.mail_host.stop()
        with SyncRedis.from_url(valkey.url) as redis:
            redis.delete(*redis.scan_iter(f"{served.prefix}:*"))


@pytest.fixture
def mail_host() -> Iterator[MailHost]:
    host = MailHost()
    host.start()
    yield host
    host.stop()


@pytest.fixture
def fleet_env(valkey: Server, prefix: str, mail_host: MailHost) -> dict[str, str]:
    """What tells a fleet its servers, as in production."""
    return {"REDIS_URL": valkey.url, "FLEET__REDIS__PREFIX": prefix, "SMTP_URL": mail_host.url}


@pytest.fixture
def start_fleet(start_command: StartFleet, fleet_env: dict[str, str]) -> Iterator[StartFleet]:
    """Starts `fleet run …` on the test's servers; it lives no longer than the test."""
    started: list[FleetCommand] = []

    def start(
        *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None, script: Path | None = None
    ) -> FleetCommand:
        started.append(start_command("run", *arguments, env={**fleet_env, **(env or {})}, cwd=cwd, script=script))
        return started[-1]

    yield start
    for command in started:
        command.kill()


@pytest.fixture
async def jobs(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Jobs]:
    async with Jobs(redis, redis_url, prefix) as jobs:
        yield jobs

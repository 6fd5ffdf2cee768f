"""Fixtures for all rings: a real Valkey, a prefix per test with a check for leaks, workers made to order."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from redis.asyncio import Redis

from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event
from workers.broker.execution import Execute
from workers.broker.hold import Hold
from workers.broker.renewer import Renewer
from workers.broker.settings import WorkerSettings
from workers.broker.worker import FleetWorker
from workers.dev.embedded import find_binary

T = TypeVar("T")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a test that is skipped because a tool is missing has failed: the machine is set up by .ci/run."""
    report = yield
    if os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple):  # type: ignore[attr-defined]
        reason = str(report.longrepr[2])  # type: ignore[attr-defined]
        if "needs " in reason:
            report.outcome = "failed"  # type: ignore[attr-defined]
            report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"  # type: ignore[attr-defined]
    return report


async def wait_until(condition: Callable[[], Awaitable[T] | T], *, timeout_s: float = 20.0, every_s: float = 0.01) -> T:
    """Poll until the condition holds, and return what it said. Fails with the condition's source otherwise."""
    end = time.monotonic() + timeout_s
    while True:
        answer = condition()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:g} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(every_s)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """The server that the tests run on: the bundled Valkey, or the program that FLEET_TEST_SERVER names."""
    name = os.environ.get("FLEET_TEST_SERVER")
    return need(name) if name else str(find_binary())


class Server:
    """A Valkey of the test run's own, which tests may also stop and start."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.directory = directory
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Return when it accepts connections."""
        command = [server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.directory), "--maxmemory-policy", "noeviction", *self.options]
        with (self.directory / "server.log").open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError((self.directory / "server.log").read_text())

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The run's shared server. Tests keep to their prefix."""
    server = Server(tmp_path_factory.mktemp("valkey"), "--appendonly", "no")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Servers for one test alone."""
    servers: list[Server] = []

    def make(*options: str) -> Server:
        directory = tmp_path / f"valkey-{len(servers)}"
        directory.mkdir()
        servers.append(Server(directory, *(options or ("--appendonly", "no"))))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def redis_url(valkey: Server) -> str:
    return valkey.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url, decode_responses=True, protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
async def prefix(redis: Redis, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A key prefix of this test's own. Afterwards: no lock is left, and no key outside the prefix was made."""
    name = f"t{uuid.uuid4().hex[:12]}"
    before = {key async for key in redis.scan_iter(count=1000)}
    yield name
    after = {key async for key in redis.scan_iter(count=1000)}
    mine = {key for key in after if key.removeprefix("fleet:").startswith((f"{name}:", f"{{{name}}}:"))}
    if mine:
        await redis.delete(*mine)
    strays = after - before - mine
    assert not strays, f"keys outside the test's prefix: {sorted(strays)}"
    if request.node.get_closest_marker("leaves_locks") is None:
        locks = sorted(key for key in mine if key.endswith(":lock"))
        assert not locks, f"locks were left: {locks}"


@pytest.fixture
def endpoint(redis_url: str, prefix: str) -> Endpoint:
    return Endpoint(url=redis_url, prefix=prefix)


class Made:
    """A worker under test with what it reported."""

    def __init__(self, worker: FleetWorker, events: list[Event]) -> None:
        self.worker = worker
        self.events = events

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


class MakeWorker(Protocol):
    async def __call__(
        self, execute: Execute | None = ..., *, queue: str = ..., endpoint: Endpoint | None = ..., **settings: Any
    ) -> Made: ...


async def completes(job: Activation, hold: Hold) -> Ending:
    """The simplest execution."""
    return Completed(result={"id": job.id})


@pytest.fixture
async def make_worker(endpoint: Endpoint) -> AsyncIterator[MakeWorker]:
    """Starts FleetWorkers with short timers; they are stopped at the end."""
    made: list[tuple[FleetWorker, Redis, Renewer]] = []
    default = endpoint

    async def make(
        execute: Execute | None = None, *, queue: str = "q", endpoint: Endpoint | None = None, **settings: Any
    ) -> Made:
        where = endpoint or default
        client = where.commands()
        values: dict[str, Any] = {"name": f"w{len(made)}", "drain_delay_s": 1.0, "lock_ms": 3000, **settings}
        events: list[Event] = []
        trouble = values.pop("trouble", str)
        renewer = Renewer(where.commands, where.prefix, on_error=lambda error: None)
        worker = FleetWorker(
            queue,
            execute or completes,
            client=client,
            blocking=where.blocking(queue, values["name"]),
            prefix=where.prefix,
            settings=WorkerSettings(**values),
            renewer=renewer,
            emit=events.append,
            types=frozenset({"email-send"}),
            trouble=trouble,
        )
        made.append((worker, client, renewer))
        await worker.start()
        return Made(worker, events)

    yield make
    for worker, client, renewer in made:
        await worker.stop(by=time.monotonic() + 5)
        await renewer.stop()
        await client.aclose()


def need(tool: str) -> str:
    """The path of a program, or skip (in CI: fail)."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"needs {tool}")
    return path

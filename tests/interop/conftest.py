"""The other side: real Node processes on npm bullmq 5.53.2 and 6.x, and a fleet of ours in this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from config.loader import load
from tests.conftest import Server, need, wait_until
from tests.interop.bridge import Bridge, Js
from workers.broker.events import Event
from workers.cli.options import shipped_config
from workers.dev.catcher import MailCatcher
from workers.fleet import build_process
from workers.ops.fleet_service import FleetService

SCRIPTS = Path(__file__).parent / "node"
EXAMPLES = Path(__file__).parents[2] / "workers" / "dev" / "example_jobs.json"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "conform(group, feature, since=5, until=None): a row of the conformance table; `since` and `until` are the "
        "first and the last major of npm bullmq that has the feature",
    )


@pytest.fixture(params=[5, 6], ids=["bullmq-5.53.2", "bullmq-6"])
def bullmq(request: pytest.FixtureRequest) -> int:
    """The major of npm bullmq on the Node side."""
    major = int(request.param)
    marker = request.node.get_closest_marker("conform")
    has = range(5, 99) if marker is None else range(marker.kwargs.get("since", 5), marker.kwargs.get("until", 98) + 1)
    if marker is not None and major not in has:
        pytest.skip(f"{marker.args[1]}: not in npm bullmq {major}")
    return major


@pytest.fixture(scope="session")
def bridges(valkey: Server) -> Iterator[Callable[[int], Bridge]]:
    """A Node process for each major, started when first asked for."""
    started: dict[int, Bridge] = {}

    def bridge(major: int) -> Bridge:
        if major not in started:
            node = need("node")
            need_packages()
            started[major] = Bridge(node, valkey.url, major)
        return started[major]

    yield bridge
    for each in started.values():
        each.end()


@pytest.fixture
async def js(bridges: Callable[[int], Bridge], bullmq: int, prefix: str) -> AsyncIterator[Js]:
    """BullMQ for Node under this test's prefix."""
    js = Js(bridges(bullmq), prefix)
    yield js
    await js.close()
    assert not js.errors(), "Node's objects met no error"


def need_packages() -> None:
    if not (SCRIPTS / "node_modules").is_dir():
        pytest.skip("needs the packages of tests/interop/node: make setup")


class Talk:
    """A Node process that is spoken to in JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(json.loads(line))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == event]

    async def end(self) -> None:
        """SIGTERM, then wait for its last words."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 20)
        await self._reading


class Node:
    """Starts the scripts beside this file against one server and prefix."""

    def __init__(self, url: str, prefix: str) -> None:
        self._common = {"redis": url, "prefix": prefix}
        self.talks: list[Talk] = []

    async def _spawn(self, script: str, options: dict[str, Any], feed: bytes) -> Talk:
        node = need("node")
        need_packages()
        argument = json.dumps({**self._common, **options})
        process = await asyncio.create_subprocess_exec(
            node,
            str(SCRIPTS / script),
            argument,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
            limit=2**24,
        )
        assert process.stdin is not None
        process.stdin.write(feed)
        await process.stdin.drain()
        process.stdin.close()
        self.talks.append(Talk(process))
        return self.talks[-1]

    async def run(
        self, script: str, options: dict[str, Any], jobs: Sequence[dict[str, Any]] = ()
    ) -> list[dict[str, Any]]:
        """Run to its end; what it printed."""
        feed = "".join(json.dumps(job) + "\n" for job in jobs).encode()
        talk = await self._spawn(script, options, feed)
        code = await asyncio.wait_for(talk.process.wait(), 45)
        await talk._reading
        assert code == 0, f"{script} ended with {code}: {talk.lines}"
        return talk.lines

    async def worker(self, **options: Any) -> Talk:
        """A Node worker that is ready."""
        talk = await self._spawn("worker.mjs", options, b"")
        await wait_until(lambda: talk.of("ready"))
        return talk


@pytest.fixture
async def node(redis_url: str, prefix: str) -> AsyncIterator[Node]:
    node = Node(redis_url, prefix)
    yield node
    for talk in node.talks:
        if talk.process.returncode is None:
            talk.process.kill()
            await talk.process.wait()
        await talk._reading


@pytest.fixture
async def mails(tmp_path: Path) -> AsyncIterator[MailCatcher]:
    catcher = MailCatcher(tmp_path / "mails")
    await catcher.start()
    yield catcher
    await catcher.stop(by=time.monotonic() + 2)


class Running:
    """A fleet of ours with what it reported."""

    def __init__(self, service: FleetService, events: list[Event]) -> None:
        self.service = service
        self.events = events


@pytest.fixture
async def start_fleet(redis_url: str, prefix: str, mails: MailCatcher) -> AsyncIterator[Callable[..., Any]]:
    """Serves email-send with the shipped configuration."""
    started: list[FleetService] = []

    async def start(*overrides: str) -> Running:
        env = {
            "REDIS_URL": redis_url,
            "SMTP_URL": mails.url,
            "SITE_EMAIL_ALIAS": "hi@example.com",
            "OTEL_SDK_DISABLED": "true",
        }
        loaded = load(
            shipped_config(),
            env=env,
            overrides=[
                f"redis.prefix={prefix}",
                "http.port=0",
                "queues.email-send.task.retry.backoff=100ms",
                *overrides,
            ],
        )
        events: list[Event] = []
        service = build_process(loaded.config, name=f"fleet-{len(started)}", listeners=[events.append])
        started.append(service)
        await service.start()
        await wait_until(lambda: service.health().ok)
        return Running(service, events)

    yield start
    for service in started:
        await service.stop(by=time.monotonic() + 5)


def examples(queue: str) -> list[dict[str, Any]]:
    """The jobs of a queue as the Node producers write them."""
    return [job for job in json.loads(EXAMPLES.read_text()) if job["queue"] == queue]

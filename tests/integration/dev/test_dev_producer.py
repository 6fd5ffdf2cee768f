from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from workers.dev.embedded import EmbeddedValkey
from workers.dev.node import FOLDER, NodeMissing, NodeProducer, NodeRuntime, find_node
from workers.dev.producer import Add, Producer
from workers.dev.resp import ask
from workers.dev.scenario import example_jobs, trickle_jobs

PRODUCER = FOLDER / "producer.mjs"
node = pytest.mark.node
needs_node = pytest.mark.skipif(
    not (FOLDER / "node_modules").exists(), reason="needs the producer's npm packages: make setup"
)


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path, durable=False)
    await server.start()
    yield server
    await server.stop(by=time.monotonic() + 5)


@pytest.fixture
async def make_producer(valkey: EmbeddedValkey) -> AsyncIterator[Callable[..., Producer]]:
    made: list[Producer] = []

    def make(**settings: Any) -> Producer:
        defaults: dict[str, Any] = {
            "url": valkey.url,
            "prefix": "bull",
            "queues": ["email-send"],
            "rate": 100.0,
            "connect": FakeQueue().connect,
            "say": lambda _text: None,
        }
        made.append(Producer(**{**defaults, **settings}))
        return made[-1]

    yield make
    for one in made:
        await one.stop(by=time.monotonic() + 2)


class FakeQueue:
    """Takes jobs; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.jobs: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
        self.failures = failures

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Add]:
        yield self.add

    async def add(self, queue: str, name: str, data: dict[str, Any], opts: dict[str, Any]) -> str:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("Redis is away")
        self.jobs.append((queue, name, data, opts))
        return str(opts.get("jobId", len(self.jobs)))


async def no_node() -> NodeMissing:
    return NodeMissing("Node is not installed")


async def test_without_node_python_adds_and_says_why(make_producer: Callable[..., Producer]) -> None:
    queue = FakeQueue()
    producer = make_producer(connect=queue.connect, find=no_node)
    await producer.start()
    assert producer.kind == "the Python producer (Node is not installed)"
    await wait_until(lambda: len(queue.jobs) >= 10)
    assert queue.jobs[0][2]["id"].startswith("k3j9x0ab12cd:reset-password:")
    assert producer.added == len({opts["jobId"] for _, _, _, opts in queue.jobs})
    assert producer.health().ok


async def test_python_producer_tries_the_same_job_again_and_tells_an_outage_once(
    make_producer: Callable[..., Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.dev.producer.AGAIN_S", 0.01)
    said: list[str] = []
    queue = FakeQueue(failures=3)
    producer = make_producer(connect=queue.connect, find=no_node, say=said.append)
    await producer.start()
    await wait_until(lambda: len(queue.jobs) >= 3)
    assert said == ["the Python producer can't add jobs and tries again: ConnectionError: Redis is away"]
    assert queue.jobs[0][2]["id"].startswith("k3j9x0ab12cd")


async def test_rate_zero_ends_after_the_examples_and_the_run_goes_on(
    make_producer: Callable[..., Producer],
) -> None:
    queue = FakeQueue()
    producer = make_producer(connect=queue.connect, find=no_node, rate=0)
    await producer.start()
    await wait_until(lambda: not producer.health().ok)
    assert len(queue.jobs) == 2
    waiting = asyncio.create_task(producer.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await producer.stop(by=time.monotonic() + 1)
    await asyncio.wait_for(waiting, 5)


async def test_stop_may_come_first_or_twice(make_producer: Callable[..., Producer]) -> None:
    producer = make_producer()
    await producer.stop(by=time.monotonic())
    producer = make_producer(find=no_node)
    await producer.start()
    await producer.stop(by=time.monotonic() + 1)
    await producer.stop(by=time.monotonic() + 1)


@pytest.mark.parametrize("rate", [-1, 1001, float("nan")])
def test_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1000"):
        Producer(url="", prefix="", queues=[], rate=rate, connect=FakeQueue().connect, say=print)


def fake_node(folder: Path, script: str) -> NodeRuntime:
    """A `node` that behaves as badly as `script` says."""
    path = folder / "node"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return NodeRuntime(str(path), "99.0.0", "6.7.0")


def finding(found: NodeRuntime | NodeMissing) -> Callable[[], Awaitable[NodeRuntime | NodeMissing]]:
    async def find() -> NodeRuntime | NodeMissing:
        return found

    return find


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Error: cannot find module x' >&2; echo more >&2; exit 1", "exit code 1: Error: cannot find module x"),
        ('echo \'{"event": "failed", "message": "Redis is gone"}\'; exit 3', "Redis is gone"),
        ("echo not json; echo '[1]'; kill -9 $$", "exit code -9"),
        ("head -c 200000 /dev/zero; exit 4", "exit code 4"),
    ],
)
async def test_node_producer_that_dies_is_replaced_by_python(
    tmp_path: Path, make_producer: Callable[..., Producer], script: str, reason: str
) -> None:
    queue, said = FakeQueue(), list[str]()
    producer = make_producer(connect=queue.connect, say=said.append, find=finding(fake_node(tmp_path, script)))
    await producer.start()
    await wait_until(lambda: len(queue.jobs) >= 3)
    assert said == [f"the Node producer ended, the Python producer goes on: {reason}"]
    assert producer.kind == "the Python producer (the Node producer ended)"


async def test_node_that_can_not_be_started_is_replaced_by_python(
    tmp_path: Path, make_producer: Callable[..., Producer]
) -> None:
    queue, said = FakeQueue(), list[str]()
    nowhere = NodeRuntime(str(tmp_path / "nowhere"), "20.0.0", "6.7.0")
    producer = make_producer(connect=queue.connect, say=said.append, find=finding(nowhere))
    await producer.start()
    await wait_until(lambda: len(queue.jobs) >= 1)
    assert said[0].startswith("the Node producer ended, the Python producer goes on: it can't be started: ")


async def test_node_producer_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    runtime = fake_node(tmp_path, "trap '' TERM; echo '{\"event\": \"started\"}'; while true; do sleep 0.1; done")
    producer = NodeProducer(runtime, url="redis://x", prefix="bull", queues=["q"], rate=1)
    messages = producer.messages()
    assert await anext(messages) == {"event": "started"}
    await producer.stop(0.1)
    assert producer.ending() == "exit code -9"
    await messages.aclose()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo v16.20.1", "Node 16.20.1 is too old, 18 is needed"),
        ("echo 'something else'", "does not tell its version"),
        ("sleep 60", "does not tell its version"),
        ("echo v20.1.0", "npm packages are not installed, run: npm ci --prefix "),
    ],
)
async def test_unusable_node_is_told_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake_node(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("workers.dev.node.VERSION_S", 0.5)
    found = await find_node(tmp_path)
    assert isinstance(found, NodeMissing)
    assert reason in found.reason


async def test_no_node_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await find_node() == NodeMissing("Node is not installed")


# ---------------------------------------------------------------- the real thing


def node_command(*arguments: str) -> list[str]:
    return ["node", str(PRODUCER), *arguments]


async def said_by_node(url: str, *arguments: str) -> list[dict[str, Any]]:
    """What the producer prints until it ends by itself with success."""
    process = await asyncio.create_subprocess_exec(
        *node_command(*arguments), env={**os.environ, "REDIS_URL": url}, stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


@node
@needs_node
async def test_node_and_python_add_the_same_jobs(valkey: EmbeddedValkey) -> None:
    every_queue = sorted({job["queue"] for job in json.loads((FOLDER.parent / "example_jobs.json").read_text())})
    arguments = ["--rate", "500", "--count", "16", "--run", "r1", "--queues", ",".join(every_queue)]
    said = await said_by_node(valkey.url, *arguments)
    added = [(message["queue"], message["id"]) for message in said if message["event"] == "added"]

    expected = list(chain(example_jobs(every_queue, "r1"), islice(trickle_jobs(every_queue, "r1"), 16)))
    assert [queue for queue, _ in added] == [job.queue for job in expected]
    for (queue, job_id), job in zip(added, expected, strict=True):
        assert job_id == job.opts.get("jobId", job_id)
        key = f"bull:{queue}:{job_id}"
        assert await ask(valkey.port, "HGET", key, "name") == job.name
        assert json.loads(await ask(valkey.port, "HGET", key, "data")) == job.data
        opts = json.loads(await ask(valkey.port, "HGET", key, "opts"))
        assert opts | job.opts == opts


@node
@needs_node
async def test_real_node_producer_runs_and_ends_with_the_run(make_producer: Callable[..., Producer]) -> None:
    found = await find_node()
    assert isinstance(found, NodeRuntime)
    producer = make_producer(rate=50.0)
    await producer.start()
    assert producer.kind == f"Node {found.version} with bullmq {found.bullmq}"
    await wait_until(lambda: producer.added >= 5)
    await producer.stop(by=time.monotonic() + 10)
    assert producer._node is not None
    assert producer._node.ending() == "exit code 0"


@node
@needs_node
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_node_producer_ends_on_a_signal_with_success(valkey: EmbeddedValkey, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *node_command("--rate", "5"), env={**os.environ, "REDIS_URL": valkey.url}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    while b'"added"' not in await asyncio.wait_for(process.stdout.readline(), 20):
        pass
    process.send_signal(number)
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    assert output.splitlines()[-1] == b'{"event":"stopped"}'


@node
@needs_node
async def test_node_producer_ends_when_its_parent_is_gone(valkey: EmbeddedValkey) -> None:
    process = await asyncio.create_subprocess_exec(
        *node_command("--rate", "5", "--with-parent"),
        env={**os.environ, "REDIS_URL": valkey.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert b'"started"' in await asyncio.wait_for(process.stdout.readline(), 20)
    process.stdin.close()
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0


@node
@needs_node
async def test_ctrl_c_of_the_terminal_reaches_the_node_producer_only_through_us(valkey: EmbeddedValkey) -> None:
    found = await find_node()
    assert isinstance(found, NodeRuntime)
    producer = NodeProducer(found, url=valkey.url, prefix="bull", queues=["email-send"], rate=20)
    messages = producer.messages()
    assert (await anext(messages))["event"] == "started"
    assert producer._process is not None
    assert os.getpgid(producer._process.pid) != os.getpgid(0)
    await producer.stop(10)
    await messages.aclose()


@node
@needs_node
async def test_node_producer_waits_out_a_restart_of_redis_without_a_double(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path)
    await first.start()
    process = await asyncio.create_subprocess_exec(
        *node_command("--rate", "50"), env={**os.environ, "REDIS_URL": first.url}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []

    async def read_until(event: str) -> None:
        while True:
            lines.append(json.loads(await process.stdout.readline()))  # type: ignore[union-attr]
            if lines[-1]["event"] == event:
                return

    second = EmbeddedValkey(tmp_path)
    try:
        await asyncio.wait_for(read_until("added"), 20)
        await first.stop(by=time.monotonic() + 5)
        await asyncio.wait_for(read_until("trouble"), 20)
        await second.start()
        await asyncio.wait_for(read_until("added"), 20)
        ids = [line["id"] for line in lines if line["event"] == "added"]
        assert len(ids) == len(set(ids))
    finally:
        process.terminate()
        await process.communicate()
        await second.stop(by=time.monotonic() + 5)


@node
@needs_node
@pytest.mark.parametrize(
    ("arguments", "url", "message"),
    [
        (["--rate=-1"], "redis://x", "--rate must be between 0 and 1000"),
        (["--rate", "many"], "redis://x", "--rate must be between 0 and 1000"),
        (["--count=-1"], "redis://x", "--count must not be negative"),
        (["--nonsense"], "redis://x", "nonsense"),
        ([], "", "REDIS_URL is not set"),
    ],
)
async def test_wrong_arguments_of_the_node_producer_are_named(arguments: list[str], url: str, message: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *node_command(*arguments), env={**os.environ, "REDIS_URL": url}, stdout=subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    said = json.loads(output)
    assert said["event"] == "failed"
    assert message in said["message"]

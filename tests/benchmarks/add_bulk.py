"""`add_bulk` of 10,000 jobs beside `addBulk` of BullMQ for Node, in turns on one Valkey. `make bench add_bulk` takes
some five minutes, writes results/add_bulk.md, and fails where ours is slower; with ROUNDS=3 it is shorter and prints.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from redis.asyncio import Redis

from config.schema import FleetConfig
from tasks.codec import decode
from tests.conftest import Server
from workers.broker.endpoint import Endpoint
from workers.broker.producer import JobAdder
from workers.queue_service.adding import Adding, Item
from workers.queue_service.routes import Routes

RESULTS = Path(__file__).parent / "results" / "add_bulk.md"
NODE = Path(__file__).parents[1] / "interop" / "node"
EXAMPLES = json.loads((Path(__file__).parents[2] / "workers" / "dev" / "example_jobs.json").read_text())

JOBS, ROUNDS = 10_000, 11
#: The most that ours may take of Node's time: the median over the rounds of one divided by the other.
TARGET = 1.0
#: How long one call may take, seconds.
PATIENCE_S = 120.0

#: Payloads: the name in the tables, and the fixture whose data and options are added.
PAYLOADS = {"a mail": 1, "a chat reply with its contexts": 6}
#: What ours are given: data as Node's producers have them, or tasks that were made in Python.
FORMS = ("data", "tasks")


@dataclass(frozen=True, slots=True)
class Round:
    """One after the other, in seconds."""

    ours: float
    theirs: float
    our_cpu: float
    their_cpu: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


Rounds = Mapping[tuple[str, int, str], Sequence[Round]]
"""By payload, major of npm bullmq and form."""


class NodeProducer:
    """A process that runs add_bulk.mjs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, url: str, major: int) -> NodeProducer:
        argument = json.dumps({"redis": url, "bullmq": major, "prefix": "node", "timeout_ms": 3_600_000})
        return cls(
            await asyncio.create_subprocess_exec(
                "node",
                str(NODE / "add_bulk.mjs"),
                argument,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "NODE_ENV": "production", "NODE_NO_WARNINGS": "1"},
            )
        )

    async def add(self, **request: Any) -> tuple[float, float]:
        """The seconds that one addBulk took, and those of its CPU."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        took = json.loads(line)
        return took["seconds"], took["cpu_s"]

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class Bench:
    """The two of them on one server."""

    def __init__(self, url: str, jobs: int, rounds: int) -> None:
        self._url, self._jobs, self._rounds = url, jobs, rounds
        queues = {
            example["queue"]: {
                "pool": "p",
                "concurrency": 1,
                "task": {"timeout": "1s", "retry": {"attempts": 5, "backoff": "10s x2"}, "priority": "node"},
            }
            for example in (EXAMPLES[number] for number in PAYLOADS.values())
        }
        self._config = FleetConfig.model_validate({"pools": {"p": {}}, "queues": queues})

    async def measure(self) -> Rounds:
        """All of it."""
        client = Endpoint(url=self._url, prefix="ours").commands()
        self._adding = Adding(JobAdder(client, "ours"), Routes.of(self._config))
        self._redis = Redis.from_url(self._url)
        nodes = {major: await NodeProducer.start(self._url, major) for major in (6, 5)}
        found: dict[tuple[str, int, str], list[Round]] = {}
        try:
            for payload, number in PAYLOADS.items():
                for major, node in nodes.items():
                    for form in FORMS:
                        await self._round(node, number, form, first="ours")  # once for nothing: code gets compiled
                        found[payload, major, form] = [
                            await self._round(node, number, form, first=("ours", "theirs")[turn % 2])
                            for turn in range(self._rounds)
                        ]
                        sys.stderr.write(f"{payload}, npm bullmq {major}, {form}: done\n")
        finally:
            for node in nodes.values():
                await node.end()
            await client.aclose()
            await self._redis.aclose()
        return found

    async def _round(self, node: NodeProducer, number: int, form: str, *, first: str) -> Round:
        example = EXAMPLES[number]
        theirs: tuple[float, float] | None = None
        opts = {name: value for name, value in example["opts"].items() if name not in ("jobId", "timeout")}
        asked = {"queue": example["queue"], "data": example["data"], "opts": opts, "jobs": self._jobs}
        if first == "theirs":
            theirs = await node.add(**asked)
            await self._clear("node", example["queue"])
        ours = await self._ours(example, form)
        await self._clear("ours", example["queue"])
        if theirs is None:
            theirs = await node.add(**asked)
            await self._clear("node", example["queue"])
        return Round(ours[0], theirs[0], ours[1], theirs[1])

    async def _ours(self, example: dict[str, Any], form: str) -> tuple[float, float]:
        items: list[Item] = [{**example["data"], "id": f"job-{number}"} for number in range(self._jobs)]
        if form == "tasks":
            items = [decode(item) for item in items]
        start, cpu = time.perf_counter(), time.process_time()
        added = await self._adding.add_bulk(items)
        took = time.perf_counter() - start, time.process_time() - cpu
        assert len(added) == self._jobs and not any(each.duplicate for each in added)
        return took

    async def _clear(self, prefix: str, queue: str) -> None:
        """See that all of them are there, and start anew."""
        base = f"{prefix}:{queue}"
        there = await self._redis.llen(f"{base}:wait") + await self._redis.zcard(f"{base}:prioritized")
        assert there == self._jobs, f"{base}: {there} jobs"
        await self._redis.flushall()


def missed(rounds: Rounds) -> list[str]:
    """What is slower than the target allows. Pure."""
    return [
        f"{payload}, npm bullmq {major}, {form}: {ratio:.2f} of Node's time, target {TARGET:.2f}"
        for (payload, major, form), each in rounds.items()
        if (ratio := statistics.median(one.ratio for one in each)) > TARGET
    ]


def page(rounds: Rounds, about: str, jobs: int) -> str:
    """The numbers as Markdown. Pure."""
    lines = [
        "# Adding many jobs",
        "",
        f"`make bench add_bulk`. One call for {jobs:,} jobs with own ids: `Adding.add_bulk`, which checks each task by "
        "its model, its queue's bounds and its route before it adds any, beside `Queue.addBulk` of BullMQ for "
        "Node, which checks nothing. In turns on one Valkey; the medians of the rounds, and of each round's ratio.",
        "",
        about,
        "",
        "| payload | given as | npm bullmq | ours | Node's | ours : Node's | from, to | our CPU | Node's CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (payload, major, form), each in rounds.items():
        ratios = sorted(one.ratio for one in each)
        ours, theirs = (statistics.median(getattr(one, side) for one in each) for side in ("ours", "theirs"))
        cpus = [statistics.median(getattr(one, side) for one in each) for side in ("our_cpu", "their_cpu")]
        lines.append(
            f"| {payload} | {form} | {major} | {ours * 1000:,.0f} ms | {theirs * 1000:,.0f} ms "
            f"| **{statistics.median(ratios):.2f}** | {ratios[0]:.2f} to {ratios[-1]:.2f} "
            f"| {cpus[0] / jobs * 1e6:.0f} µs a job | {cpus[1] / jobs * 1e6:.0f} µs a job |"
        )
    verdict = missed(rounds)
    lines += [
        "",
        "Missed: " + "; ".join(verdict) if verdict else f"Target met: at most {TARGET:.2f} of Node's time.",
        "",
    ]
    return "\n".join(lines)


async def about(url: str, rounds: int) -> str:
    """What took part, and how busy the machine was besides."""
    async with Redis.from_url(url, decode_responses=True) as redis:
        info = await redis.info("server")
    node = await asyncio.create_subprocess_exec("node", "--version", stdout=asyncio.subprocess.PIPE)
    node_version = (await node.communicate())[0].decode().strip()
    server = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"CPython {python} with redis-py {version('redis')} and bullmq {version('bullmq')}; Node {node_version}; "
        f"{server}; {rounds} rounds. {psutil.cpu_count()} cores, load average {psutil.getloadavg()[0]:.1f} before the "
        "first round: trust ratios, not absolutes."
    )


async def bench(url: str, rounds: int) -> tuple[Rounds, str]:
    """The rounds, and the page about them."""
    head = await about(url, rounds)
    found = await Bench(url, JOBS, rounds).measure()
    return found, page(found, head, JOBS)


def main() -> int:
    asked = os.environ.get("ROUNDS")
    if asked is not None and not (asked.isdecimal() and int(asked) > 0):
        raise SystemExit(f"ROUNDS={asked}: a whole number above 0 is needed")
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--appendonly", "no")
        server.start()
        try:
            found, text = asyncio.run(bench(server.url, int(asked) if asked else ROUNDS))
        finally:
            server.stop()
    if not asked:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
    sys.stdout.write(text)
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())

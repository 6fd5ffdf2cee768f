"""Adds jobs, by a real Node producer where there is Node, and notes in the ledger which of them Redis has taken.

Each job has an id of ours, so that one whose acknowledgement got lost can be added again without being doubled.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from bullmq import Queue
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.hostility import QUEUES, Acts, Job
from tests.chaos.ledger import Ledger
from tests.chaos.mail_sink import BOUNCE

QUEUE = "email-send"
SCRIPT = Path(__file__).parents[1] / "interop" / "node" / "add.mjs"
BOUNCES, DELAYED, PRIORITIZED = 0.02, 0.1, 0.05  # shares of the jobs
#: Seconds in which no hostile jobs are added, and in which they are, so that the mails have times of both kinds. It
#: begins in the middle of the quiet ones.
QUIET_S, HOSTILE_S = 10.0, 10.0
#: A Node producer ends itself after that long.
NODE_LIFE_MS = 3_600_000

Add: TypeAlias = Callable[[Job], Awaitable[None]]


def node_is_there() -> bool:
    """Whether the interop tests' Node project can be run."""
    return shutil.which("node") is not None and (SCRIPT.parent / "node_modules").is_dir()


class Producer:
    """Adds `rate` mails a second until told to stop, and hostile jobs in every other ten seconds.

    Args:
        url: of the server itself; the producer has no part in the network faults.
        acts: what the hostile jobs do; without any there are none.
        hostile_every_s: the mean time between two of them in those.
    """

    def __init__(self, ledger: Ledger, url: str, rate: float, seed: str, acts: Acts, hostile_every_s: float) -> None:
        self.kind = "Node" if node_is_there() else "Python"
        self.restarts = 0
        """Node processes that ended before their time; their unacknowledged jobs were added again."""
        self._ledger = ledger
        self._url = url
        self._rate = rate
        self._draw = random.Random(seed)
        self._acts = acts
        self._hostile_draw = random.Random(f"{seed}:hostile")
        self._hostile_every_s = hostile_every_s
        self._count = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Add jobs until `stop`, then return when all of them are acknowledged."""
        async with self._adder() as add:
            hostile = asyncio.create_task(self._add_hostile(add, stop))
            try:
                while not stop.is_set():
                    await add(self._next())
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), self._draw.expovariate(self._rate))
                await hostile
            finally:
                hostile.cancel()
                await asyncio.wait({hostile})

    async def _add_hostile(self, add: Add, stop: asyncio.Event) -> None:
        began = time.monotonic()
        while self._acts.names and not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._hostile_draw.expovariate(1 / self._hostile_every_s))
                return
            if (QUIET_S / 2 + time.monotonic() - began) % (QUIET_S + HOSTILE_S) < QUIET_S:
                continue
            name, job = self._acts.next()
            self._ledger.sent_hostile(job["opts"]["jobId"], act=name, queue=job["queue"])
            await add(job)

    def _next(self) -> Job:
        self._count += 1
        bounces = self._draw.random() < BOUNCES
        job = f"{BOUNCE if bounces else 'job-'}{self._count:06d}"
        opts: Job = {"jobId": job}
        if self._draw.random() < DELAYED:
            opts["delay"] = self._draw.randint(200, 2000)
        elif self._draw.random() < PRIORITIZED:
            opts["priority"] = self._draw.randint(1, 5)
        self._ledger.sent(job, delay_s=opts.get("delay", 0) / 1000, bounces=bounces)
        data = {
            "type": "email-send",
            "id": job,
            "to": [f"{job}@example.com"],
            "subject": f"Chaos {self._count}",
            "text": "Still there.",
            "html": "<p>Still there.</p>",
        }
        return {"queue": QUEUE, "name": QUEUE, "data": data, "opts": opts}

    @asynccontextmanager
    async def _adder(self) -> AsyncIterator[Add]:
        async with AsyncExitStack() as stack:
            if self.kind == "Node":
                node = _Node(self._url, self._ledger)
                stack.push_async_callback(node.finish)
                yield node.add
                await node.all_acknowledged()
                self.restarts = node.restarts
            else:
                client = Redis.from_url(self._url, decode_responses=True, protocol=2)
                stack.push_async_callback(client.aclose)
                queues = {name: Queue(name, {"connection": client}) for name in (QUEUE, *QUEUES)}
                yield lambda job: self._add_in_python(queues[job["queue"]], job)

    async def _add_in_python(self, queue: Any, job: Job) -> None:
        while True:
            try:
                await queue.add(job["name"], job["data"], job["opts"])
            except (RedisError, OSError):
                await asyncio.sleep(0.2)
            else:
                return self._ledger.acknowledged(job["opts"]["jobId"])


class _Node:
    """`add.mjs` with an open standard input; started anew should it end."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.restarts = -1
        self._url = url
        self._ledger = ledger
        self._waiting: dict[str, Job] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def add(self, job: Job) -> None:
        """Hand a job over; returns before it is acknowledged."""
        self._waiting[job["opts"]["jobId"]] = job
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._start()
            else:
                await self._write(job)

    async def all_acknowledged(self) -> None:
        """Return when Redis has all jobs."""
        while self._waiting:
            if self._process is None or self._process.returncode is not None:
                await self._start()
            await asyncio.sleep(0.05)

    async def finish(self) -> None:
        """End the process."""
        if self._process is None or self._reading is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _start(self) -> None:
        if self._reading is not None:
            await self._reading
        self.restarts += 1
        self._process = await asyncio.create_subprocess_exec(
            shutil.which("node") or "node",
            str(SCRIPT),
            json.dumps({"redis": self._url, "timeout_ms": NODE_LIFE_MS}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # each retry of each connection
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        for job in tuple(self._waiting.values()):
            await self._write(job)

    async def _write(self, job: Job) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with suppress(OSError):  # it has ended; the next one is given all that waits
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            await self._process.stdin.drain()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        while line := await process.stdout.readline():
            job = json.loads(line)["id"]
            self._ledger.acknowledged(job)
            self._waiting.pop(job, None)
        await process.wait()

"""Adds jobs while `make run` shows them: by the real Node producer if there is a Node, else from Python.

A producer in trouble says so and goes on; it never ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any, TypeAlias

from workers.dev import PartHealth
from workers.dev.node import Message, NodeMissing, NodeProducer, NodeRuntime, find_node
from workers.dev.scenario import NewJob, example_jobs, trickle_jobs

#: `add(queue, name, data, opts) -> job id`.
Add: TypeAlias = Callable[[str, str, dict[str, Any], dict[str, Any]], Awaitable[str]]
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Add]]

ADD_TIMEOUT_S = 10.0
PYTHON = "the Python producer"
AGAIN_S = 1.0  # between two tries while Redis is away
LARGEST_RATE = 1000.0


class Producer:
    """Adds the example jobs of `queues`, then the trickle at `rate`.

    Args:
        url: of Redis, for the Node producer.
        prefix: BullMQ's key prefix.
        queues: jobs of these are added, those that the fleet serves.
        rate: jobs a second, 0 to 1000; 0: the example jobs alone. Defaults to 1.
        connect: opens the Python producer's connection.
        say: told in one line what a person should know.
        find: looks for a Node. Defaults to `find_node`.
    """

    name = "producer"

    def __init__(
        self,
        *,
        url: str,
        prefix: str,
        queues: Collection[str],
        rate: float = 1.0,
        connect: Connect,
        say: Callable[[str], None],
        find: Callable[[], Awaitable[NodeRuntime | NodeMissing]] = find_node,
    ) -> None:
        if not 0 <= rate <= LARGEST_RATE:
            raise ValueError(f"rate must be between 0 and {LARGEST_RATE:g} jobs a second")
        self.kind = ""
        """Who adds the jobs, for a person; known after `start`."""
        self.added = 0
        """Jobs added so far."""
        self._url = url
        self._prefix = prefix
        self._queues = tuple(queues)
        self._rate = rate
        self._connect = connect
        self._say = say
        self._find = find
        self._node: NodeProducer | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Choose the producer and begin."""
        if self._task is not None:
            return
        found = await self._find()
        self.kind = f"{PYTHON} ({found.reason})" if isinstance(found, NodeMissing) else str(found)
        self._task = asyncio.create_task(self._produce(found), name="producer")

    async def wait(self) -> None:
        """Return after `stop`; a producer in trouble or at its end does not end the run."""
        await self._stopping.wait()

    async def stop(self, *, by: float) -> None:
        """Add no more: ask the Node producer to end, kill it at `by` (monotonic seconds)."""
        self._stopping.set()
        if self._node is not None:
            await self._node.stop(max(0.0, by - time.monotonic()))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=max(0.0, by - time.monotonic()))

    def health(self) -> PartHealth:
        """Whether it still adds jobs, and how many it has added."""
        running = self._task is not None and not self._task.done()
        return PartHealth(ok=running, detail=f"{self.kind or 'not started'}, {self.added} jobs added")

    async def _produce(self, found: NodeRuntime | NodeMissing) -> None:
        try:
            if isinstance(found, NodeRuntime):
                self._node = NodeProducer(
                    found, url=self._url, prefix=self._prefix, queues=self._queues, rate=self._rate
                )
                if await self._follow("the Node producer", self._node.messages()) or self._stopping.is_set():
                    return
                self.kind = f"{PYTHON} (the Node producer ended)"
                self._say(f"the Node producer ended, {PYTHON} goes on: {self._node.ending()}")
            python = PythonProducer(self._connect, queues=self._queues, rate=self._rate)
            await self._follow(PYTHON, python.messages())
        except Exception as error:
            self._say(f"the producer failed, no more jobs are added: {type(error).__name__}: {error}")

    async def _follow(self, who: str, messages: AsyncGenerator[Message]) -> bool:
        """Count what is added and tell an outage once; true if the producer came to its own end."""
        in_trouble = finished = False
        async with aclosing(messages):
            async for message in messages:
                match message.get("event"):
                    case "added":
                        self.added += 1
                        in_trouble = False
                    case "trouble" if not in_trouble:
                        in_trouble = True
                        self._say(f"{who} can't add jobs and tries again: {message.get('message')}")
                    case "stopped":
                        finished = True
        return finished


class PythonProducer:
    """What producer.mjs does, in this process; the tests hold the two together.

    Args:
        connect: opens a connection to add jobs with.
        queues: jobs of these are added.
        rate: jobs a second; 0: the example jobs alone.
    """

    def __init__(self, connect: Connect, *, queues: Collection[str], rate: float) -> None:
        self._connect = connect
        self._queues = queues
        self._rate = rate

    async def messages(self) -> AsyncGenerator[Message]:
        """Add the jobs and yield what happens."""
        async with AsyncExitStack() as connection:
            add: Add | None = None
            async for job in self._paced_jobs():
                while True:
                    try:
                        if add is None:
                            add = await connection.enter_async_context(self._connect())
                        async with asyncio.timeout(ADD_TIMEOUT_S):
                            job_id = await add(job.queue, job.name, job.data, job.opts)
                        break
                    except Exception as error:
                        # A job with an id of its own is not doubled where only the reply was lost.
                        yield {"event": "trouble", "message": f"{type(error).__name__}: {error}"}
                        await asyncio.sleep(AGAIN_S)
                yield {"event": "added", "queue": job.queue, "id": job_id}
        yield {"event": "stopped"}

    async def _paced_jobs(self) -> AsyncGenerator[NewJob]:
        run = f"{time.time_ns() // 1_000_000:x}"
        for job in example_jobs(self._queues, run):
            yield job
        due = time.monotonic()
        for job in trickle_jobs(self._queues, run) if self._rate else ():
            due = max(due + 1 / self._rate, time.monotonic())  # no burst after an outage
            await asyncio.sleep(due - time.monotonic())
            yield job

"""Adding jobs from Python: over a client that others use too, or with a connection of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from bullmq import Queue
from redis.asyncio import Redis

from workers.broker import producer_span
from workers.broker.backend import MAX_REASON
from workers.broker.endpoint import Endpoint
from workers.broker.hold import Parent
from workers.broker.result import message

Add: TypeAlias = Callable[[str, str, dict[str, Any], dict[str, Any]], Awaitable[str]]


class AddRefusedError(Exception):
    """The job can't be added, now or later."""


class JobAdder:
    """Adds jobs to the queues of one prefix, in the traces that they belong to.

    Args:
        client: shared with others, closed by whoever made it.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str = "bull") -> None:
        self._client = client
        self._prefix = prefix
        self._queues: dict[str, Queue] = {}

    async def add(self, queue: str, name: str, data: Any, opts: dict[str, Any], parent: Parent | None = None) -> str:
        """Add a job and return its id. One with an id of its own (`jobId`) may be added again, as after a lost reply:
        while Redis has a job of that id, BullMQ adds none.

        Args:
            data: JSON.
            opts: BullMQ's, as Node writes them.
            parent: the job that waits for it, and that fails when it does.

        Raises:
            AddRefusedError: data or options are no JSON or contradict each other, the parent is gone, or the child is
                another parent's or has failed.
            NotSentError, ReplyLostError, redis.exceptions.RedisError: Redis did not take it, or did not say so.
        """
        target = self._queue(queue)
        with producer_span.adding(queue, name) as span:
            options = producer_span.joined(span, opts)
            if parent is not None:
                options |= {"parent": {"id": parent.id, "queue": parent.queue_key}, "failParentOnFailure": True}
                await self._refuse_failed(target, options.get("jobId"))
            try:
                job = await target.add(name, data, options)
            except (TypeError, ValueError, RecursionError) as error:  # the package's own, whatever went wrong
                raise AddRefusedError(message(error, MAX_REASON)) from error
            producer_span.added(span, str(job.id))
        return str(job.id)

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = Queue(name, {"connection": self._client, "prefix": self._prefix})
        return self._queues[name]

    async def _refuse_failed(self, queue: Queue, child: str | None) -> None:
        """BullMQ would make a child that has failed already a dependency that nothing ever removes."""
        if child is not None and await self._client.zscore(queue.keys["failed"], child) is not None:
            raise AddRefusedError(
                f"child {child} of queue {queue.name} was added before and has failed: retry it first"
            )


@asynccontextmanager
async def adder(url: str, prefix: str = "bull") -> AsyncIterator[Add]:
    """Yield `add(queue, name, data, opts) -> job id`; the connection closes with the context."""
    client = Endpoint(url=url, prefix=prefix).commands()
    try:
        yield JobAdder(client, prefix).add
    finally:
        await client.aclose()

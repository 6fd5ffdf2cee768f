"""Adding jobs from Python, for producers of ours that need no more than that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from bullmq import Queue

from workers.broker.endpoint import Endpoint

Add: TypeAlias = Callable[[str, str, dict[str, Any], dict[str, Any]], Awaitable[str]]


@asynccontextmanager
async def adder(url: str, prefix: str = "bull") -> AsyncIterator[Add]:
    """Yield `add(queue, name, data, opts) -> job id`; the connection closes with the context."""
    client = Endpoint(url=url, prefix=prefix).commands()
    queues: dict[str, Queue] = {}

    async def add(queue: str, name: str, data: dict[str, Any], opts: dict[str, Any]) -> str:
        if queue not in queues:
            queues[queue] = Queue(queue, {"connection": client, "prefix": prefix})
        job = await queues[queue].add(name, data, opts)
        return str(job.id)

    try:
        yield add
    finally:
        await client.aclose()

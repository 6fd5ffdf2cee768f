"""Adding jobs from Python: over a client that others use too, or with a connection of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from redis.asyncio import Redis

from workers.broker import producer_span
from workers.broker.add_script import AddRefusedError, AddScript, Placed
from workers.broker.backend import MAX_REASON, now_ms
from workers.broker.endpoint import Endpoint
from workers.broker.hold import Parent
from workers.broker.new_job import NewJob, written
from workers.broker.result import message

__all__ = ["Add", "AddRefusedError", "JobAdder", "adder", "json_of"]

Add: TypeAlias = Callable[[str, str, dict[str, Any], dict[str, Any]], Awaitable[str]]

# As JSON.stringify writes it. What recurs is found by it; what nests too deeply is a RecursionError.
_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def json_of(data: Any) -> tuple[str, int]:
    """The JSON of a job's data and its bytes.

    Raises:
        TypeError, ValueError, RecursionError: it is none.
    """
    text = _json(data)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:  # lone surrogates: as JSON.stringify, escaped
        text = _ascii(data)
        return text, len(text)


class JobAdder:
    """Adds jobs to the queues of one prefix, in the traces that they belong to.

    Args:
        client: shared with others, closed by whoever made it.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str = "bull") -> None:
        self.prefix = prefix
        self.script = AddScript(client, prefix)

    async def add(self, queue: str, name: str, data: Any, opts: dict[str, Any], parent: Parent | None = None) -> str:
        """Add a job and return its id. One with an id of its own (`jobId`) may be added again, as after a lost reply:
        while Redis has a job of that id, BullMQ adds none.

        Args:
            data: JSON.
            opts: BullMQ's, as Node's callers write them.
            parent: the job that waits for it, and that fails when it does.

        Raises:
            AddRefusedError: data or options are no JSON or contradict each other, the parent is gone, or the child is
                another parent's or has failed.
            NotSentError, ReplyLostError, redis.exceptions.RedisError: Redis did not take it, or did not say so.
        """
        stored = written(opts if parent is None else {**opts, "failParentOnFailure": True})
        if len(told := [flag for flag in ("fpof", "cpof", "idof", "rdof") if stored.get(flag)]) > 1:
            raise AddRefusedError(f"of these options a job has one at most: {', '.join(told)}")
        try:
            text, _ = json_of(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise AddRefusedError(message(error, MAX_REASON)) from error
        job_id = str(stored.get("jobId", ""))
        placed = await self.place(NewJob(queue=queue, name=name, data=text, opts=stored, id=job_id, parent=parent))
        return placed.job_id

    async def place(self, job: NewJob) -> Placed:
        """Add one job, and say whether one was there already.

        Raises: as `add`.
        """
        with producer_span.adding(job.queue, job.name) as span:
            (answer,) = await self.script.add([replace(job, opts=producer_span.joined(span, job.opts))], now_ms())
            if isinstance(answer, Exception):
                raise answer
            producer_span.added(span, answer.job_id)
        return answer


@asynccontextmanager
async def adder(url: str, prefix: str = "bull") -> AsyncIterator[Add]:
    """Yield `add(queue, name, data, opts) -> job id`; the connection closes with the context."""
    client = Endpoint(url=url, prefix=prefix).commands()
    try:
        yield JobAdder(client, prefix).add
    finally:
        await client.aclose()

"""Adds jobs for tasks: to the queue that carries the type, with the options that this queue's settings ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from config.schema import FleetConfig, QueueConfig
from tasks.base import Task
from tasks.codec import encode
from workers.broker.backend import MAX_REASON
from workers.broker.hold import Parent
from workers.broker.producer import AddRefusedError
from workers.broker.result import message
from workers.contract import PermanentError, TransientError
from workers.queue_service import QueueServiceError

AddJob: TypeAlias = Callable[[str, str, Any, dict[str, Any], Parent | None], Awaitable[str]]
"""(queue, job name, data, options, parent) → the job's id; see `JobAdder.add`."""

#: Characters of a name that an error quotes.
QUOTED = 100


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where jobs of one task type go."""

    queue: str
    options: Mapping[str, Any]
    """BullMQ's, written into each job."""
    max_data_bytes: int
    """What the queue's workers accept."""


def routes(config: FleetConfig) -> dict[str, Route]:
    """By task type: a queue is named like the type that it carries, and so is its module. Pure."""
    return {
        name: Route(queue=name, options=_options(entry), max_data_bytes=entry.max_data)
        for name, entry in config.queues.items()
    }


def _options(entry: QueueConfig) -> dict[str, Any]:
    """What Node's producers write into every job, with the numbers of this queue: a Node worker on it keeps to them
    too. A backoff that BullMQ has no words for is left to the worker's settings.
    """
    retry = entry.task.retry
    options: dict[str, Any] = {
        "attempts": retry.attempts,
        "removeOnComplete": entry.keep.completed.to_bullmq(),
        "removeOnFail": entry.keep.failed.to_bullmq(),
    }
    kind = {1.0: "fixed", 2.0: "exponential"}.get(retry.backoff.factor)
    if kind is not None and retry.backoff.delay_s and retry.backoff.max_s is None:
        options["backoff"] = {"type": kind, "delay": round(retry.backoff.delay_s * 1000)}
        options["backoff"] |= {"jitter": retry.jitter} if retry.jitter else {}
    return options


def job_id(task_id: str, *, child: bool = False) -> str:
    """The id that Node's producers give a task's job, so that the task is not added twice: the task's own, unless
    BullMQ would take it for a counter's. In a child's, colons are replaced: Node's getFlow would cut its key there.
    """
    if re.fullmatch("-?[0-9]+", task_id):
        return f"task-{task_id}"
    return task_id.replace(":", "-") if child else task_id


class TaskAdder:
    """The port behind `ctx.add`.

    Args:
        add: adds one job.
        routes: by task type.
        admit: raises QueueServiceError where a queue takes no more for now. None: every queue takes all.
    """

    def __init__(
        self, add: AddJob, routes: Mapping[str, Route], *, admit: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        self._add = add
        self._routes = routes
        self._admit = admit

    async def __call__(self, task: Task, parent: Parent | None = None, *, as_job: str | None = None) -> str:
        """Add a job for the task and return its id. While Redis has a job of that id, finished ones included, nothing
        is added: a run that is repeated adds its children once.

        Args:
            parent: the job that it is a child of.
            as_job: the job's id. None: see `job_id`.

        Raises:
            TransientError: Redis did not take it, or did not say so, or the queue is full; it may be added again.
            PermanentError: no queue carries its type, it is no JSON or too large for its queue, or BullMQ refuses it.
        """
        if not isinstance(task, Task):
            raise PermanentError(f"a task is added, not a {type(task).__name__[:QUOTED]}")
        route = self._routes.get(task.type)
        if route is None:
            raise PermanentError(f"no queue carries task type '{task.type[:QUOTED]}': set queues.{task.type[:QUOTED]}")
        data = _checked(task, route)
        options = {**route.options}
        if chosen := as_job or job_id(task.id, child=parent is not None):
            options["jobId"] = chosen
        try:
            if self._admit is not None:
                await self._admit(route.queue)
            return await self._add(route.queue, route.queue, data, options, parent)
        except AddRefusedError as error:
            raise PermanentError(f"queue {route.queue} takes no such job: {error}") from error
        except QueueServiceError as error:
            raise TransientError(str(error), retry_after_s=error.retry_after_s) from error
        except Exception as error:
            why = message(error, MAX_REASON)
            raise TransientError(f"a job could not be added to queue {route.queue}: {why}") from error


def _checked(task: Task, route: Route) -> dict[str, Any]:
    """The job's data."""
    data = encode(task)
    try:
        size = len(json.dumps(data, separators=(",", ":"), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"a task of type '{task.type}' is no JSON: {message(error, MAX_REASON)}") from error
    if size > route.max_data_bytes:
        limit = f"the {route.max_data_bytes:,} that queue {route.queue} accepts (max_data)"
        raise PermanentError(f"a task of type '{task.type}' has {size:,} bytes, more than {limit}")
    return data

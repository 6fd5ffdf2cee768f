"""Adds jobs for tasks: to the queue that carries the type, with the options that this queue's settings ask for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from config.schema import FleetConfig, QueueConfig
from tasks.base import Task
from tasks.codec import encode
from tasks.ids import job_id_for
from tasks.limits import Limits
from tasks.priority import Rule, calculate_priority
from tasks.tier import EnterpriseRule
from workers.broker.backend import MAX_REASON
from workers.broker.hold import Parent
from workers.broker.producer import AddRefusedError
from workers.broker.result import message
from workers.contract import PermanentError, TransientError
from workers.queue_service import QueueServiceError
from workers.runtime import settings

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
    limits: Limits = field(default_factory=Limits)
    """The same, of depth and characters."""
    priority: Rule | None = None
    """By which rule its jobs get a priority; None: they get none."""
    enterprise: EnterpriseRule = field(default_factory=EnterpriseRule)
    """Whose tasks come first by the generic rule."""


def routes(config: FleetConfig) -> dict[str, Route]:
    """By task type: a queue is named like the type that it carries, and so is its module. Pure."""
    enterprise = settings.enterprise(config.tiers)
    return {
        name: Route(
            queue=name,
            options=_options(entry),
            max_data_bytes=entry.max_data,
            limits=settings.data_limits(entry),
            priority=None if entry.task.priority == "none" else entry.task.priority,
            enterprise=enterprise,
        )
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


class TaskAdder:
    """The port behind `ctx.add`.

    Args:
        add: adds one job.
        routes: by task type.
        admit: raises QueueServiceError where a queue takes no more for now. None: every queue takes all.
        depth: how many jobs wait in a queue, as far as it is known: 0 where it is not. Asked after `admit`, which may
            have looked.
    """

    def __init__(
        self,
        add: AddJob,
        routes: Mapping[str, Route],
        *,
        admit: Callable[[str], Awaitable[None]] | None = None,
        depth: Callable[[str], int] = lambda queue: 0,
    ) -> None:
        self._add = add
        self._routes = routes
        self._admit = admit
        self._depth = depth

    async def __call__(
        self, task: Task, parent: Parent | None = None, *, as_job: str | None = None, priority: int | None = None
    ) -> str:
        """Add a job for the task and return its id. While Redis has a job of that id, finished ones included, nothing
        is added: a run that is repeated adds its children once.

        Args:
            parent: the job that it is a child of.
            as_job: the job's id. None: see `tasks.ids.job_id_for`.
            priority: BullMQ's; 0: none. None: by the rule of its task type (`task.priority`).

        Raises:
            TransientError: Redis did not take it, or did not say so, or the queue is full; it may be added again.
            PermanentError: no queue carries its type, it is no JSON or too large or too deep for its queue, or BullMQ
                refuses it.
        """
        if not isinstance(task, Task):
            raise PermanentError(f"a task is added, not a {type(task).__name__[:QUOTED]}")
        route = self._routes.get(task.type)
        if route is None:
            raise PermanentError(f"no queue carries task type '{task.type[:QUOTED]}': set queues.{task.type[:QUOTED]}")
        data = _checked(task, route)
        options = {**route.options}
        if chosen := as_job or job_id_for(task, child=parent is not None):
            options["jobId"] = chosen
        try:
            if self._admit is not None:
                await self._admit(route.queue)
            if rank := self._priority(task, route) if priority is None else priority:
                options["priority"] = rank
            return await self._add(route.queue, route.queue, data, options, parent)
        except AddRefusedError as error:
            raise PermanentError(f"queue {route.queue} takes no such job: {error}") from error
        except PermanentError:
            raise
        except QueueServiceError as error:
            raise TransientError(str(error), retry_after_s=error.retry_after_s) from error
        except Exception as error:
            why = message(error, MAX_REASON)
            raise TransientError(f"a job could not be added to queue {route.queue}: {why}") from error

    def _priority(self, task: Task, route: Route) -> int:
        """By the rule of its type; 0: none."""
        if route.priority is None:
            return 0
        waiting, enterprise = self._depth(route.queue), route.enterprise
        try:
            return calculate_priority(task, rule=route.priority, queue_depth=waiting, enterprise=enterprise)
        except (AttributeError, TypeError, ValueError) as error:  # made without validation, so not what its type says
            why = message(error, MAX_REASON)
            raise PermanentError(f"a task of type '{task.type}' can't be given a priority: {why}") from error


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
    if (beyond := route.limits.exceeded(data)) is not None:
        raise PermanentError(f"a task of type '{task.type}' is more than queue {route.queue} accepts: {beyond}")
    return data

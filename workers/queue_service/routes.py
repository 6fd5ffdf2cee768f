"""Where jobs of each task type go, and what their queues make of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from config.accept_section import queue_of, task_of, types_of
from config.schema import FleetConfig, QueueConfig
from config.task_section import RetryConfig
from config.tier_section import TiersConfig
from tasks.limits import Limits
from tasks.priority import Rule
from tasks.tier import EnterpriseRule
from workers.broker.new_job import written
from workers.queue_service.errors import InvalidRequestError, UnknownQueueError

#: Characters of a name that an error quotes.
QUOTED = 100


@dataclass(frozen=True, kw_only=True)
class Route:
    """How jobs of one task type are added to one queue."""

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

    @cached_property
    def written(self) -> Mapping[str, Any]:
        """The options, under the names by which they are written."""
        return written(self.options)


@dataclass(frozen=True)
class Routes:
    """All routes of a configuration."""

    carried: Mapping[str, Mapping[str, Route]]
    """By queue and task type."""
    by_type: Mapping[str, Route]
    """That of each task type where the caller names no queue."""

    @classmethod
    def of(cls, config: FleetConfig) -> Routes:
        """Those of this configuration: its `queues`, `routes` and `tiers` are read."""
        enterprise = enterprise_rule(config.tiers)
        carried = {
            queue: {kind: _route(config, queue, kind, enterprise) for kind in types_of(queue, entry)}
            for queue, entry in config.queues.items()
        }
        kinds = sorted({kind for each in carried.values() for kind in each})
        return cls(carried, {kind: carried[queue][kind] for kind in kinds if (queue := queue_of(config, kind))})

    def find(self, kind: str, queue: str | None = None) -> Route:
        """The route of a task type: to this queue, or to the one that is set for it.

        Raises:
            UnknownQueueError: no queue of that name is configured.
            InvalidRequestError: no queue carries the type, or this one does not.
        """
        if queue is None:
            if (route := self.by_type.get(kind)) is None:
                name = _quoted(kind)
                raise InvalidRequestError("type", f"no queue carries task type '{name}': set queues.{name}")
            return route
        carried = self.carried.get(queue) if isinstance(queue, str) else None
        if carried is None:
            name = _quoted(queue)
            raise UnknownQueueError(f"queue '{name}' is not configured: set queues.{name}")
        if kind not in carried:
            fix = f"set queues.{queue}.accepts.{_quoted(kind)}"
            raise InvalidRequestError(
                "queue", f"{queue} carries no tasks of type '{_quoted(kind)}': {fix}", queue=queue
            )
        return carried[kind]


def data_limits(entry: QueueConfig) -> Limits:
    """How deep, and how large in characters, the data of the queue's jobs may be."""
    return Limits(max_depth=entry.max_depth, max_chars=entry.max_chars)


def enterprise_rule(tiers: TiersConfig) -> EnterpriseRule:
    """Who is an enterprise user."""
    return EnterpriseRule(field=tiers.enterprise.field, values=tiers.enterprise.values)


def _route(config: FleetConfig, queue: str, kind: str, enterprise: EnterpriseRule) -> Route:
    entry, task = config.queues[queue], task_of(config, queue, kind)
    return Route(
        queue=queue,
        options=_options(entry, task.retry),
        max_data_bytes=entry.max_data,
        limits=data_limits(entry),
        priority=None if task.priority == "none" else task.priority,
        enterprise=enterprise,
    )


def _options(entry: QueueConfig, retry: RetryConfig) -> dict[str, Any]:
    """What Node's producers write into every job, with the numbers of this queue: a Node worker on it keeps to them
    too. A backoff that BullMQ has no words for is left to the worker's settings.
    """
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


def _quoted(name: object) -> str:
    text = name if isinstance(name, str) else f"a {type(name).__name__}"
    return "".join(c if c.isprintable() else "�" for c in text[:QUOTED])

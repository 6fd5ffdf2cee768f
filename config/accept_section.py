"""The `accepts` of a queue in fleet.yaml: the task types that it carries, where these are not the one of its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from config.section import Section
from config.task_section import TaskConfig

if TYPE_CHECKING:
    from config.schema import FleetConfig, QueueConfig

#: An importable module, `acme.invoices`.
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]


class AcceptConfig(Section):
    """One of the task types that a queue carries; `{}` where its defaults will do."""

    module: ModuleName | None = None
    """The importable Python module whose MODULE serves it. Defaults to the one that Fleet brings for the type, and for
    the type that the queue is named after to the queue's own `module`."""
    task: TaskConfig | None = None
    """How one job of this type is run. Defaults to the `task` of the queue that is named like the type; where there is
    none, to that of this queue."""


_PLAIN = AcceptConfig()


def types_of(queue: str, entry: QueueConfig) -> Mapping[str, AcceptConfig]:
    """The task types that a queue carries: that of its name, unless `accepts` says otherwise."""
    return {queue: _PLAIN} if entry.accepts is None else entry.accepts


def module_of(queue: str, entry: QueueConfig, kind: str) -> str | None:
    """The importable module for a type that the queue carries. None: the one that Fleet brings for it, if any."""
    return types_of(queue, entry)[kind].module or (entry.module if kind == queue else None)


def task_of(config: FleetConfig, queue: str, kind: str) -> TaskConfig:
    """How a job of a type that the queue carries is run."""
    entry = config.queues[queue]
    said = types_of(queue, entry)[kind].task
    return said or config.queues.get(kind, entry).task


def task_place(config: FleetConfig, queue: str, kind: str) -> tuple[str, ...]:
    """The key in fleet.yaml under which that is said."""
    if types_of(queue, config.queues[queue])[kind].task is not None:
        return "queues", queue, "accepts", kind, "task"
    return "queues", kind if kind in config.queues else queue, "task"


def queue_of(config: FleetConfig, kind: str) -> str | None:
    """The queue that a task of this type is added to: that of `routes`, else the one that is named like it, else the
    first that carries it. None: none carries it.
    """
    carriers = [queue for queue, entry in config.queues.items() if kind in types_of(queue, entry)]
    chosen = config.routes.get(kind, kind)
    return chosen if chosen in carriers else next(iter(carriers), None)

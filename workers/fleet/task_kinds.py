"""The task types of one queue: the module of each, opened, and how its jobs are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from config.accept_section import module_of, task_of, types_of
from config.schema import FleetConfig, QueueConfig
from tasks.base import Task
from workers import queues as modules
from workers.broker.backend import MAX_REASON
from workers.broker.emitter import Emitter
from workers.broker.events import WorkerError
from workers.broker.result import message
from workers.contract import OnFailed, QueueModule
from workers.runtime import settings
from workers.runtime.executor import Plan
from workers.runtime.isolation.call import Isolator
from workers.runtime.isolation.choice import isolate
from workers.runtime.isolation.place import trouble_of


class OpenError(Exception):
    """A queue's module could not be opened; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class TaskKinds:
    """Those of one queue, by what `data.type` carries."""

    plans: Mapping[str, Plan]
    hooks: Mapping[str, OnFailed[Any] | None]
    """What follows when a job has failed for good, of the types whose settings ask for it."""
    troubles: tuple[Callable[[], str], ...]

    @property
    def types(self) -> dict[str, type[Task]]:
        """The models of those whose final failures are followed."""
        return {kind: plan.task for kind, plan in self.plans.items() if plan.task is not None and kind in self.hooks}

    def trouble(self) -> str:
        """What keeps jobs of some type from being run; empty where nothing does."""
        return "; ".join(dict.fromkeys(filter(None, (each() for each in self.troubles))))


async def open_kinds(
    config: FleetConfig, queue: str, entry: QueueConfig, stack: AsyncExitStack, emit: Emitter
) -> TaskKinds:
    """Open the modules of all types that the queue carries; they are closed with the stack.

    Raises:
        OpenError: one of them can't be opened.
    """
    plans: dict[str, Plan] = {}
    hooks: dict[str, OnFailed[Any] | None] = {}
    troubles: list[Callable[[], str]] = []
    for kind in types_of(queue, entry):
        task, name = task_of(config, queue, kind), module_of(queue, entry, kind)
        module = modules.load(kind, name)
        own = entry.model_copy(update={"task": task, "module": name})
        isolation = await _isolation(config, queue, module, own, stack, emit)
        plans[kind] = Plan(
            task=module.task,
            isolation=isolation,
            classify=module.classify,
            backoff=module.backoff,
            ladder=settings.ladder(task),
            retry=settings.retry_policy(task.retry),
        )
        troubles.append(trouble_of(isolation))
        if task.on_failed == "notify":
            hooks[kind] = module.on_failed
    return TaskKinds(plans=plans, hooks=hooks, troubles=tuple(troubles))


async def _isolation(
    config: FleetConfig,
    queue: str,
    module: QueueModule[Any, Any],
    entry: QueueConfig,
    stack: AsyncExitStack,
    emit: Emitter,
) -> Isolator:
    def failed(error: BaseException) -> None:
        emit(WorkerError(queue=queue, where="isolation", error=error))

    options = module.options.model_validate(entry.task.options)
    try:
        return await stack.enter_async_context(isolate(queue, module, options, entry, config.log, failed, emit))
    except Exception as error:
        raise OpenError(f"queue {queue} can't be opened: {message(error, MAX_REASON)}") from error

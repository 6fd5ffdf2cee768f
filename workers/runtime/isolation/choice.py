"""Where the jobs of a queue run: what YAML says, else what its module chose, and what its processor can."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import getpid
from typing import Any, cast

from config.schema import LogConfig, QueueConfig
from workers.broker.events import Event
from workers.contract import Isolation as Kind
from workers.contract import QueueModule, Services
from workers.runtime.isolation.brief import Brief
from workers.runtime.isolation.call import Isolator
from workers.runtime.isolation.children import Children, Limits
from workers.runtime.isolation.inline import Inline
from workers.runtime.isolation.processors import is_async
from workers.runtime.isolation.thread import Threads


class IsolationError(Exception):
    """The processor can't run where it is to; the message names the field."""


@asynccontextmanager
async def isolate(
    queue: str,
    module: QueueModule[Any, Any],
    options: Any,
    entry: QueueConfig,
    log_config: LogConfig,
    on_error: Callable[[Exception], None],
    tell: Callable[[Event], None] = lambda event: None,
) -> AsyncIterator[Isolator]:
    """Open a queue's module where its jobs are to run: here, or in child processes and not here.

    Args:
        options: `task.options` as the module wants them; children read them once more.
        entry: the queue's section of fleet.yaml; its `task` and `module` those of the module's task type.
        log_config: what children log.
        on_error: told of threads left behind and of children that fail between jobs.
        tell: told of the starts, deaths and replacements of children.

    Raises:
        IsolationError: see there.
        Exception: what the module's `open` raised; from a child, StartError.
    """
    kind = Kind(entry.task.isolation) if entry.task.isolation is not None else module.isolation
    if kind is Kind.PROCESS:
        told = brief(queue, entry, log_config, kind=module.task.type_name())
        async with Children(told, limits(entry), on_error, tell=tell) as children:
            yield children
        return
    async with module.open(Services(queue=queue, slots=entry.concurrency), options) as process:
        if not is_async(process):
            async with Threads(cast("Any", process), queue, on_error) as threads:
                yield threads
        elif kind is Kind.THREAD:
            raise IsolationError(
                f"queues.{queue}.task.isolation: thread is for processors that are a plain `def`; this one is an "
                "`async def`, which runs on the event loop (async) or in a child process (process)"
            )
        else:
            yield Inline(cast("Any", process))


def brief(queue: str, entry: QueueConfig, log_config: LogConfig, *, kind: str = "") -> Brief:
    """What a child of this queue is told that runs jobs of this type; empty: of the type of its name."""
    return Brief(
        queue=queue,
        kind=kind,
        module=entry.module,
        options=entry.task.options,
        log_level=log_config.level,
        memory_limit=entry.task.children.memory_limit,
        max_depth=entry.max_depth,
        max_chars=entry.max_chars,
        path=tuple(sys.path),
        host_pid=getpid(),
    )


def limits(entry: QueueConfig) -> Limits:
    """How many children of this queue there may be, and when one is replaced."""
    children = entry.task.children
    return Limits(size=entry.concurrency, max_jobs=children.max_jobs, memory=children.memory)

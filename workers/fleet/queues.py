"""The queues of one process: their workers, and what these share."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from config.schema import FleetConfig, QueueConfig
from workers import queues as modules
from workers.broker import compat
from workers.broker.backend import MAX_REASON
from workers.broker.emitter import Emitter
from workers.broker.endpoint import Endpoint
from workers.broker.events import WorkerError
from workers.broker.lease_table import LeaseTable
from workers.broker.preflight import examine
from workers.broker.producer import JobAdder
from workers.broker.renewer import Renewer
from workers.broker.result import message
from workers.broker.takeover import table_path
from workers.broker.worker import FleetWorker
from workers.contract import QueueModule
from workers.fleet.depths import admission, backlog
from workers.runtime import settings
from workers.runtime.aftermath import Aftermath
from workers.runtime.context import Ports
from workers.runtime.executor import Executor, Plan
from workers.runtime.isolation.call import Isolator
from workers.runtime.isolation.choice import isolate
from workers.runtime.isolation.place import trouble_of
from workers.runtime.process import FleetProcess
from workers.runtime.selection import Selection
from workers.runtime.task_adder import TaskAdder, routes
from workers.telemetry.redaction import redact_text

#: How long a process that ends may add what follows the failures of its last jobs, seconds.
AFTERMATH_S = 1.0


class OpenError(Exception):
    """A queue's module could not be opened; the message says which and why."""


class QueueOpener:
    """Opens the queues of one process, and holds what their workers share: a connection for commands, the renewer of
    their locks, the way to add tasks.

    Args:
        name: of the process; with the host's it names the workers in Redis.
        slots: of all queues together.
        shared: the folder that the supervisor reads along in; None where there is none.
    """

    def __init__(
        self, config: FleetConfig, endpoint: Endpoint, emit: Emitter, *, name: str, slots: int, shared: Path | None
    ) -> None:
        self._config, self._endpoint, self._emit = config, endpoint, emit
        self._name = f"{name}@{socket.gethostname()}"
        self._client = endpoint.commands()
        self._renewer = Renewer(
            endpoint.commands,
            config.redis.prefix,
            on_error=lambda error: emit(WorkerError(queue="all", where="renew", error=error)),
            table=LeaseTable.create(table_path(shared, os.getpid()), slots) if shared is not None else None,
        )
        limited = {queue: entry for queue, entry in config.queues.items() if entry.limits.depth or entry.limits.age}
        self._admission = admission(config, self._client, limited)
        add = JobAdder(self._client, config.redis.prefix).add
        depth = partial(backlog, self._admission)
        self._add = TaskAdder(add, routes(config), admit=self._admission.admit, depth=depth)
        self._aftermath = Aftermath(
            self._add,
            lambda queue, error, job_id: emit(WorkerError(queue=queue, where="on_failed", error=error, job_id=job_id)),
            describe=redact_text,
            reconnect=endpoint.reconnect,
        )

    async def examine(self) -> None:
        """Look at Redis and at the package.

        Raises:
            StartRefusedError: one of them must not be used as it is.
            Exception: Redis does not answer.
        """
        redis = self._config.redis
        await examine(self._client, allow_eviction=redis.allow_eviction, prefix=redis.prefix)
        compat.check()

    async def open(self, queue: str, entry: QueueConfig, stack: AsyncExitStack) -> FleetWorker:
        """The worker of a queue; its module is closed with the stack.

        Raises:
            OpenError: the module can't be opened.
        """
        module = modules.load(queue, entry.module)
        isolation = await self._isolation(queue, module, entry, stack)
        plan = Plan(
            task=module.task,
            isolation=isolation,
            classify=module.classify,
            backoff=module.backoff,
            ladder=settings.ladder(entry.task),
            retry=settings.retry_policy(entry.task.retry),
        )
        types = {module.task.type_name(): module.task}
        limits, enterprise = settings.limits(entry), settings.enterprise(self._config.tiers)
        ports = Ports(add=self._add)
        executor = Executor(dict.fromkeys(types, plan), limits, ports=ports, enterprise=enterprise)
        notifies = entry.task.on_failed == "notify"
        return FleetWorker(
            queue,
            executor.execute,
            client=self._client,
            blocking=self._endpoint.blocking(queue, self._name),
            prefix=self._config.redis.prefix,
            settings=settings.worker(self._config, entry, self._name),
            renewer=self._renewer,
            emit=self._emit,
            types=frozenset(types),
            describe=redact_text,
            on_failed=self._aftermath.of(types, module.on_failed, limits=limits.data) if notifies else None,
            trouble=trouble_of(isolation),
        )

    async def close(self) -> None:
        """Add what is left to add, stop the renewer, close the connection."""
        await self._aftermath.close(AFTERMATH_S)
        await self._admission.close()
        await self._renewer.stop()
        await self._client.aclose()

    async def _isolation(
        self, queue: str, module: QueueModule[Any, Any], entry: QueueConfig, stack: AsyncExitStack
    ) -> Isolator:
        def failed(error: BaseException) -> None:
            self._emit(WorkerError(queue=queue, where="isolation", error=error))

        options = module.options.model_validate(entry.task.options)
        try:
            opened = isolate(queue, module, options, entry, self._config.log, failed, self._emit)
            return await stack.enter_async_context(opened)
        except Exception as error:
            raise OpenError(f"queue {queue} can't be opened: {message(error, MAX_REASON)}") from error


def queue_process(
    config: FleetConfig,
    selection: Selection,
    endpoint: Endpoint,
    *,
    name: str,
    emit: Emitter,
    shared: Path | None = None,
) -> FleetProcess:
    """The queues of one process, without a server of its own. In `shared` its supervisor reads along."""
    slots = sum(entry.concurrency for entry in selection.served.values())
    opener = QueueOpener(config, endpoint, emit, name=name, slots=slots, shared=shared)
    return FleetProcess(
        name=name,
        examine=opener.examine,
        queues={queue: partial(opener.open, queue, entry) for queue, entry in selection.served.items()},
        close=opener.close,
        redis=endpoint.display,
        reconnect=endpoint.reconnect,
        connections=lambda: endpoint.open_connections,
        skipped=selection.skipped,
    )

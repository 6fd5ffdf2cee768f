"""The queues of one process: their workers, and what these share."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from config.schema import FleetConfig, QueueConfig
from workers.broker import compat
from workers.broker.emitter import Emitter
from workers.broker.endpoint import Endpoint
from workers.broker.events import WorkerError
from workers.broker.lease_table import LeaseTable
from workers.broker.preflight import examine
from workers.broker.producer import JobAdder
from workers.broker.renewer import Renewer
from workers.broker.takeover import table_path
from workers.broker.worker import FleetWorker
from workers.fleet.depths import admission
from workers.fleet.task_kinds import OpenError, open_kinds
from workers.queue_service.adding import Adding
from workers.queue_service.routes import Routes, enterprise_rule
from workers.runtime import settings
from workers.runtime.aftermath import Aftermath
from workers.runtime.context import Ports
from workers.runtime.executor import Executor
from workers.runtime.process import FleetProcess
from workers.runtime.selection import Selection
from workers.runtime.task_adder import TaskAdder
from workers.telemetry.redaction import redact_text

__all__ = ["OpenError", "QueueOpener", "queue_process"]

#: How long a process that ends may add what follows the failures of its last jobs, seconds.
AFTERMATH_S = 1.0


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
        jobs = JobAdder(self._client, config.redis.prefix)
        self._add = TaskAdder(Adding(jobs, Routes.of(config), admission=self._admission))
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
        """The worker of a queue; its modules are closed with the stack.

        Raises:
            OpenError: one of them can't be opened.
        """
        kinds = await open_kinds(self._config, queue, entry, stack, self._emit)
        limits, enterprise = settings.limits(entry), enterprise_rule(self._config.tiers)
        executor = Executor(kinds.plans, limits, ports=Ports(add=self._add), enterprise=enterprise)
        return FleetWorker(
            queue,
            executor.execute,
            client=self._client,
            blocking=self._endpoint.blocking(queue, self._name),
            prefix=self._config.redis.prefix,
            settings=settings.worker(self._config, entry, self._name),
            renewer=self._renewer,
            emit=self._emit,
            types=frozenset(kinds.plans),
            describe=redact_text,
            on_failed=self._aftermath.of(kinds.types, kinds.hooks, limits=limits.data) if kinds.hooks else None,
            trouble=kinds.trouble,
        )

    async def close(self) -> None:
        """Add what is left to add, stop the renewer, close the connection."""
        await self._aftermath.close(AFTERMATH_S)
        await self._admission.close()
        await self._renewer.stop()
        await self._client.aclose()


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

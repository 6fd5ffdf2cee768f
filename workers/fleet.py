"""The composition root: from a configuration to a running fleet. The only file that knows everybody.

`build_process` serves queues in this process; `build_fleet` supervises processes that each do so (`serve_pool`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from config.errors import ConfigError, ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig, QueueConfig
from workers import queues as modules
from workers.broker import compat
from workers.broker.backend import MAX_REASON
from workers.broker.emitter import Emitter, Listener
from workers.broker.endpoint import Endpoint, EndpointError
from workers.broker.events import WorkerError
from workers.broker.lease_table import LeaseTable
from workers.broker.preflight import examine
from workers.broker.producer import adder as producer
from workers.broker.renewer import Renewer
from workers.broker.result import message
from workers.broker.takeover import Takeover, table_path
from workers.broker.worker import FleetWorker
from workers.contract import QueueModule, Services
from workers.ops.fleet_service import FleetService
from workers.runtime import selection, settings
from workers.runtime.executor import Executor, Plan
from workers.runtime.pool_child import ChildSpec
from workers.runtime.process import FleetProcess, OpenQueue
from workers.runtime.selection import Selection, SelectionError
from workers.runtime.supervisor import Supervisor
from workers.telemetry import exposition, logs, tracing
from workers.telemetry.job_log import JobLog
from workers.telemetry.loop_lag import LoopLag
from workers.telemetry.metrics import Metrics
from workers.telemetry.redaction import redact_text
from workers.telemetry.tracing import Tracing

__all__ = [
    "OpenError",
    "PoolBrief",
    "SelectionError",
    "build_fleet",
    "build_process",
    "check_options",
    "producer",
    "select",
    "serve_pool",
]


#: How much longer than its longest time-out a process of a pool may be silent before it is killed, seconds.
SILENCE_S = 60.0


class OpenError(Exception):
    """A queue's module could not be opened; the message says which and why."""


def select(
    config: FleetConfig, pools: Collection[str] | None = None, queues: Collection[str] | None = None
) -> Selection:
    """The queues to serve; see `workers.runtime.selection.select`."""
    return selection.select(config, modules.available(), pools, queues)


def check_options(loaded: LoadedConfig) -> list[ConfigIssue]:
    """What the parts that use them say about `redis` and each `task.options`; empty when all is well."""
    issues: list[ConfigIssue] = []
    try:
        if loaded.config.redis.url != "embedded":
            settings.endpoint(loaded.config)
    except EndpointError as error:
        issues.append(loaded.issue(error.path, error.problem))
    for queue in sorted(modules.available() & set(loaded.config.queues)):
        try:
            loaded.options(queue, _module(queue).options)
        except ConfigError as error:
            issues.extend(error.issues)
    return issues


def _module(queue: str) -> QueueModule[Any, Any]:
    return modules.discover({queue})[queue]


# ------------------------------------------------------------------- one process


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
    client = endpoint.commands()
    slots = sum(entry.concurrency for entry in selection.served.values())
    renewer = Renewer(
        endpoint.commands,
        config.redis.prefix,
        on_error=lambda error: emit(WorkerError(queue="all", where="renew", error=error)),
        table=LeaseTable.create(table_path(shared, os.getpid()), slots) if shared is not None else None,
    )
    worker_name = f"{name}@{socket.gethostname()}"

    def opener(queue: str, entry: QueueConfig) -> OpenQueue:
        async def open_queue(stack: AsyncExitStack) -> FleetWorker:
            module = _module(queue)
            options = module.options.model_validate(entry.task.options)
            services = Services(queue=queue, slots=entry.concurrency)
            try:
                process = await stack.enter_async_context(module.open(services, options))
            except Exception as error:
                raise OpenError(f"queue {queue} can't be opened: {message(error, MAX_REASON)}") from error
            plan = Plan(
                process=process,
                classify=module.classify,
                backoff=module.backoff,
                timeout_s=entry.task.timeout,
                retry=settings.retry_policy(entry.task.retry),
            )
            executor = Executor({module.task.type_name(): plan}, settings.limits(entry))
            return FleetWorker(
                queue,
                executor.execute,
                client=client,
                blocking=endpoint.blocking(queue, worker_name),
                prefix=config.redis.prefix,
                settings=settings.worker(config, entry, worker_name),
                renewer=renewer,
                emit=emit,
                types=frozenset({module.task.type_name()}),
                describe=redact_text,
            )

        return open_queue

    async def examined() -> None:
        await examine(client, allow_eviction=config.redis.allow_eviction, prefix=config.redis.prefix)
        compat.check()

    async def close() -> None:
        await renewer.stop()
        await client.aclose()

    return FleetProcess(
        name=name,
        examine=examined,
        queues={queue: opener(queue, entry) for queue, entry in selection.served.items()},
        close=close,
        redis=endpoint.display,
        reconnect=endpoint.reconnect,
        connections=lambda: endpoint.open_connections,
        skipped=selection.skipped,
    )


# --------------------------------------------------------------------- telemetry


@dataclass(frozen=True)
class Telemetry:
    """What listens in one process that runs jobs."""

    emit: Emitter
    registry: CollectorRegistry
    loop: LoopLag
    traces: Tracing

    async def close(self) -> None:
        """Let the listeners catch up and send the last spans, for some seconds at most."""
        await self.emit.close(1.0)
        await self.loop.stop(by=time.monotonic() + 1)
        await asyncio.to_thread(self.traces.shutdown, 3.0)


def _telemetry(config: FleetConfig, endpoint: Endpoint, name: str, listeners: Sequence[Listener] = ()) -> Telemetry:
    logs.configure(config.log, process=name)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    emit = Emitter()
    all_listeners: tuple[Listener, ...] = (metrics, JobLog(), *listeners)
    for listener in all_listeners:
        emit.subscribe(listener)

    def measured(lag_s: float) -> None:
        metrics.loop_lag(lag_s)
        metrics.listener_failures(emit.failures)
        metrics.redis_connections(endpoint.open_connections)

    return Telemetry(emit, registry, LoopLag(measured), tracing.configure(config.tracing))


# --------------------------------------------------------------------- the fleet


def build_process(
    config: FleetConfig,
    *,
    name: str = "fleet",
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    listeners: Sequence[Listener] = (),
) -> FleetService:
    """All in this process.

    Raises:
        SelectionError: see `select`.
    """
    chosen = select(config, pools, queues)
    endpoint = settings.endpoint(config)
    telemetry = _telemetry(config, endpoint, name, listeners)
    return FleetService(
        queue_process(config, chosen, endpoint, name=name, emit=telemetry.emit),
        telemetry.loop,
        host=config.http.host,
        port=config.http.port,
        metrics=lambda: (exposition.exposition(telemetry.registry), exposition.CONTENT_TYPE),
        close=telemetry.close,
        served=tuple(chosen.served),
        skipped=chosen.skipped,
    )


def build_fleet(
    config: FleetConfig,
    command: Sequence[str],
    *,
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
) -> FleetService:
    """A supervisor with `processes` children a pool. `command` starts a child: it reads a PoolBrief from its standard
    input, beats on the descriptor that is its last argument, and runs `serve_pool`.

    Raises:
        SelectionError: see `select`.
    """
    chosen = select(config, pools, queues)
    logs.configure(config.log, process="supervisor")
    shared = Path(tempfile.mkdtemp(prefix="fleet-"))
    stalls = {queue: entry.stalls for queue, entry in chosen.served.items()}
    endpoint = settings.endpoint(config)
    leases = Takeover(endpoint.commands(), config.redis.prefix, shared, stalls, endpoint.reconnect)
    specs = [
        _child(config, chosen, pool, number, command, shared)
        for pool in chosen.pools
        for number in range(config.pools[pool].processes)
    ]

    def died(pid: int) -> None:
        leases.died(pid)
        exposition.forget_process(shared, pid)

    async def close() -> None:
        await asyncio.to_thread(shutil.rmtree, shared, True)

    return FleetService(
        Supervisor(specs, on_death=died, beside=[leases]),
        LoopLag(lambda lag_s: None),
        host=config.http.host,
        port=config.http.port,
        metrics=lambda: (exposition.merged_exposition(shared), exposition.CONTENT_TYPE),
        close=close,
        served=tuple(chosen.served),
        skipped=chosen.skipped,
    )


class PoolBrief(BaseModel):
    """What a supervisor tells a child on its standard input, as one JSON line."""

    model_config = ConfigDict(frozen=True)

    name: str
    config: FleetConfig
    queues: tuple[str, ...]
    shared: Path
    """A directory of the supervisor's: metrics and leases of its children."""


def _child(
    config: FleetConfig, chosen: Selection, pool: str, number: int, command: Sequence[str], shared: Path
) -> ChildSpec:
    name = f"{pool}-{number}"
    queues = tuple(queue for queue, entry in chosen.served.items() if entry.pool == pool)
    brief = PoolBrief(name=name, config=config, queues=queues, shared=shared)
    return ChildSpec(
        name=name,
        argv=(*command, "{beat_fd}"),
        stdin=brief.model_dump_json().encode() + b"\n",
        silence_s=SILENCE_S + max(chosen.served[queue].task.timeout for queue in queues),
        env={"PROMETHEUS_MULTIPROC_DIR": str(shared)},
    )


@asynccontextmanager
async def serve_pool(brief: PoolBrief) -> AsyncIterator[FleetProcess]:
    """One child of a supervisor: the process, not started yet, and its telemetry around it."""
    chosen = select(brief.config, None, brief.queues)
    endpoint = settings.endpoint(brief.config)
    telemetry = _telemetry(brief.config, endpoint, brief.name)
    await telemetry.loop.start()
    try:
        yield queue_process(brief.config, chosen, endpoint, name=brief.name, emit=telemetry.emit, shared=brief.shared)
    finally:
        await telemetry.close()

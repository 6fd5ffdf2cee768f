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
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from config.errors import ConfigError, ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig, QueueConfig
from tasks.notification_create import NotificationCreate
from workers import queues as modules
from workers.broker import compat
from workers.broker.backend import MAX_REASON
from workers.broker.emitter import Emitter, Listener
from workers.broker.endpoint import Endpoint, EndpointError
from workers.broker.events import WorkerError
from workers.broker.lease_table import LeaseTable
from workers.broker.preflight import examine
from workers.broker.producer import JobAdder
from workers.broker.producer import adder as producer
from workers.broker.renewer import Renewer
from workers.broker.result import message
from workers.broker.stats import StatsReader
from workers.broker.takeover import Takeover, table_path
from workers.broker.worker import FleetWorker
from workers.ops.fleet_service import FleetService, Runner
from workers.ops.queue_watch import QueueWatch
from workers.ops.watched import Watched
from workers.queue_service import Limits, QueueService
from workers.queues import QueueModuleError
from workers.runtime import selection, settings
from workers.runtime.aftermath import Aftermath
from workers.runtime.context import Ports
from workers.runtime.executor import Executor, Plan
from workers.runtime.isolation.choice import isolate
from workers.runtime.process import FleetProcess, OpenQueue
from workers.runtime.rss import resident
from workers.runtime.selection import Selection, SelectionError
from workers.runtime.supervision.beat import Beat
from workers.runtime.supervision.brief import PoolBrief, bounds, queues_by_pool, specs
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.event_loop import missing as missing_loop
from workers.runtime.supervision.reload import Reload
from workers.runtime.supervision.replacement import Event as ProcessEvent
from workers.runtime.supervision.supervisor import Supervisor
from workers.runtime.supervision.view import single
from workers.runtime.supervision.vitals import Vitals
from workers.runtime.task_adder import TaskAdder, routes
from workers.runtime.watchdog import Watchdog
from workers.telemetry import exposition, logs, tracing
from workers.telemetry.job_log import JobLog
from workers.telemetry.leak_watch import LeakWatch
from workers.telemetry.loop_lag import LoopLag
from workers.telemetry.metrics import Metrics
from workers.telemetry.queue_gauges import QueueGauges
from workers.telemetry.redaction import redact_text
from workers.telemetry.supervision import SupervisionMetrics
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


#: Where the notes of `on_failed: notify` go whose module makes none of its own.
NOTES = NotificationCreate.type_name()
#: How long a process that ends may add what follows the failures of its last jobs, seconds.
AFTERMATH_S = 1.0


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
    for name, pool in sorted(loaded.config.pools.items()):
        if missing := missing_loop(pool.loop):
            issues.append(loaded.issue(("pools", name, "loop"), missing))
    available = modules.available()
    for queue, entry in sorted(loaded.config.queues.items()):
        if queue not in available and entry.module is None:
            continue
        try:
            module = modules.load(queue, entry.module)
            if entry.task.on_failed == "notify" and module.on_failed is None and NOTES not in loaded.config.queues:
                problem = f"notify: notes go to queue {NOTES}, which is not configured: set queues.{NOTES}"
                issues.append(loaded.issue(("queues", queue, "task", "on_failed"), problem))
            loaded.options(queue, module.options)
        except ConfigError as error:
            issues.extend(error.issues)
        except QueueModuleError as error:
            issues.append(loaded.issue(("queues", queue, "module"), str(error)))
    return issues


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
    limited = {queue: entry for queue, entry in config.queues.items() if entry.limits.depth or entry.limits.age}
    admission = queue_service(config, client, limited)
    add = TaskAdder(JobAdder(client, config.redis.prefix).add, routes(config), admit=admission.admit)
    aftermath = Aftermath(
        add,
        lambda queue, error, job_id: emit(WorkerError(queue=queue, where="on_failed", error=error, job_id=job_id)),
        describe=redact_text,
        reconnect=endpoint.reconnect,
    )

    def opener(queue: str, entry: QueueConfig) -> OpenQueue:
        async def open_queue(stack: AsyncExitStack) -> FleetWorker:
            module = modules.load(queue, entry.module)
            options = module.options.model_validate(entry.task.options)
            opened = isolate(
                queue,
                module,
                options,
                entry,
                config.log,
                lambda error: emit(WorkerError(queue=queue, where="isolation", error=error)),
            )
            try:
                isolation = await stack.enter_async_context(opened)
            except Exception as error:
                raise OpenError(f"queue {queue} can't be opened: {message(error, MAX_REASON)}") from error
            plan = Plan(
                task=module.task,
                isolation=isolation,
                classify=module.classify,
                backoff=module.backoff,
                ladder=settings.ladder(entry.task),
                retry=settings.retry_policy(entry.task.retry),
            )
            executor = Executor({module.task.type_name(): plan}, settings.limits(entry), ports=Ports(add=add))
            notifies = entry.task.on_failed == "notify"
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
                on_failed=aftermath.of({module.task.type_name(): module.task}, module.on_failed) if notifies else None,
            )

        return open_queue

    async def examined() -> None:
        await examine(client, allow_eviction=config.redis.allow_eviction, prefix=config.redis.prefix)
        compat.check()

    async def close() -> None:
        await aftermath.close(AFTERMATH_S)
        await admission.close()
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


# --------------------------------------------------------------- depth of queues


def queue_service(config: FleetConfig, client: Any, queues: Mapping[str, QueueConfig]) -> QueueService:
    """What is known of how much waits in these queues; `admit` says whether one may be added to.

    Args:
        client: commands, of an Endpoint; closed by the caller.
    """
    limits, rates = _depth_limits(queues)
    reader = StatsReader(client, config.redis.prefix, rates=rates)
    return QueueService(reader, limits, timeout_s=config.redis.command_timeout)


def _depth_limits(queues: Mapping[str, QueueConfig]) -> tuple[dict[str, Limits], dict[str, int]]:
    """How much may wait, and how many may start in one span, by queue."""
    limits = {queue: Limits(depth=entry.limits.depth, age_s=entry.limits.age) for queue, entry in queues.items()}
    return limits, {queue: entry.rate.count for queue, entry in queues.items() if entry.rate is not None}


def _watched(
    runner: Runner, config: FleetConfig, chosen: Selection, endpoint: Endpoint
) -> tuple[Watched, QueueService]:
    """The runner with a watch over the queues that it serves: one in each pod."""
    client = endpoint.commands()
    queues = queue_service(config, client, chosen.served)
    return Watched(runner, QueueWatch(queues, close=client.aclose), queues), queues


# --------------------------------------------------------------------- telemetry


@dataclass(frozen=True)
class Telemetry:
    """What listens in one process that runs jobs."""

    emit: Emitter
    registry: CollectorRegistry
    loop: LoopLag
    traces: Tracing
    vitals: Vitals
    """How the process is, for the supervisor."""

    def beat(self, process: FleetProcess) -> Beat:
        """What the supervisor is told of the process."""
        return Beat(process.started, process.ready, tuple(process.states()), self.vitals.report())

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
    job_log = JobLog()
    leaks = LeakWatch(resident, partial(metrics.runtime.resident, name), metrics.runtime.slope)
    watchdog = Watchdog(emit, job_log, late=metrics.loop_lag, describe=redact_text)
    vitals = Vitals(lambda: loop.worst_s)
    for numbers in (watchdog.numbers, leaks.numbers):
        vitals.add(numbers)
    all_listeners: tuple[Listener, ...] = (metrics, job_log, leaks, vitals, *listeners)
    for listener in all_listeners:
        emit.subscribe(listener)

    def measured(lag_s: float) -> None:
        metrics.loop_lag(lag_s)
        metrics.listener_failures(emit.failures)
        metrics.redis_connections(endpoint.open_connections)
        leaks.look()

    loop = LoopLag(measured, beside=[watchdog])
    return Telemetry(emit, registry, loop, tracing.configure(config.tracing), vitals)


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
    process = queue_process(config, chosen, endpoint, name=name, emit=telemetry.emit)
    pooled = queues_by_pool(chosen)
    runner, queues_seen = _watched(process, config, chosen, endpoint)
    telemetry.registry.register(QueueGauges(queues_seen.states))
    return FleetService(
        runner,
        telemetry.loop,
        host=config.http.host,
        port=config.http.port,
        metrics=lambda: (exposition.exposition(telemetry.registry), exposition.CONTENT_TYPE),
        close=telemetry.close,
        served=tuple(chosen.served),
        skipped=chosen.skipped,
        view=lambda: single(name, telemetry.beat(process), pooled),
    )


def _supervised(
    config: FleetConfig,
    choose: Callable[[FleetConfig], Selection],
    command: Sequence[str],
    shared: Path,
    endpoint: Endpoint,
    processes: SupervisionMetrics,
) -> tuple[Supervisor, Reload]:
    """The supervisor with its hand on its processes' leases, and how it takes over a new configuration."""
    chosen = choose(config)
    leases = Takeover(
        endpoint.commands(),
        config.redis.prefix,
        shared,
        bounds(chosen.served),
        on_poison=lambda queue, job_id: processes.quarantined(queue),
        reconnect=endpoint.reconnect,
    )

    def heard(event: ProcessEvent) -> None:
        if isinstance(event, Death):
            leases.died(event.pid, None if event.expected else event.notice)
            exposition.forget_process(shared, event.pid)
        processes(event)

    def adopt(config: FleetConfig, chosen: Selection) -> None:
        logs.configure(config.log, process="supervisor")
        leases.bound(bounds(chosen.served))
        processes.serves(chosen.served)

    make_specs = partial(
        specs, command=command, shared=shared, longest_s=lambda entry: settings.ladder(entry.task).end_s
    )
    supervisor = Supervisor(
        make_specs(config, chosen),
        emit=heard,
        beside=[leases],
        busy_until=leases.busy_until,
        queues=queues_by_pool(chosen),
    )
    processes.serves(chosen.served)
    on_result = processes.reloaded
    return supervisor, Reload(config, supervisor, choose=choose, specs=make_specs, adopt=adopt, on_result=on_result)


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
    endpoint = settings.endpoint(config)
    own = CollectorRegistry()
    processes = SupervisionMetrics(own)
    choose = partial(select, pools=pools, queues=queues)
    supervisor, reload = _supervised(config, choose, command, shared, endpoint, processes)

    async def close() -> None:
        await asyncio.to_thread(shutil.rmtree, shared, True)

    runner, queues_seen = _watched(supervisor, config, chosen, endpoint)
    own.register(QueueGauges(queues_seen.states, connections=lambda: endpoint.open_connections))

    def metrics() -> tuple[bytes, str]:
        return exposition.merged_exposition(shared) + exposition.exposition(own), exposition.CONTENT_TYPE

    return FleetService(
        runner,
        LoopLag(lambda lag_s: processes.see(supervisor.view())),
        host=config.http.host,
        port=config.http.port,
        metrics=metrics,
        close=close,
        served=tuple(chosen.served),
        skipped=chosen.skipped,
        view=supervisor.view,
        reload=reload,
    )


@asynccontextmanager
async def serve_pool(brief: PoolBrief) -> AsyncIterator[tuple[FleetProcess, Callable[[], Beat]]]:
    """One child of a supervisor: the process, not started yet, what it tells of itself, and its telemetry around it."""
    chosen = select(brief.config, None, brief.queues)
    endpoint = settings.endpoint(brief.config)
    telemetry = _telemetry(brief.config, endpoint, brief.name)
    await telemetry.loop.start()
    try:
        process = queue_process(
            brief.config, chosen, endpoint, name=brief.name, emit=telemetry.emit, shared=brief.shared
        )
        yield process, lambda: telemetry.beat(process)
    finally:
        await telemetry.close()

"""The composition root: from a configuration to a running fleet. The only file that knows everybody.

`build_process` serves queues in this process; `build_fleet` supervises processes that each do so (`serve_pool`).
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from config.errors import ConfigError, ConfigIssue
from config.loader import LoadedConfig
from config.schema import FleetConfig, QueueConfig, RetryConfig
from workers import queues as modules
from workers.broker.backend import WorkerSettings
from workers.broker.endpoint import Endpoint
from workers.broker.events import Emitter, Listener
from workers.broker.preflight import examine
from workers.broker.producer import adder
from workers.broker.worker import FleetWorker
from workers.contract import QueueModule, Services
from workers.ops.health import Check
from workers.ops.server import OpsServer
from workers.runtime.executor import Executor, Limits, Plan
from workers.runtime.process import FleetProcess, OpenQueue, State
from workers.runtime.retry import RetryPolicy
from workers.runtime.supervisor import ChildSpec, Supervisor
from workers.telemetry import logs, metrics, tracing
from workers.telemetry.job_log import JobLog


class SelectionError(Exception):
    """A pool or queue was asked for that the configuration does not have."""


# ---------------------------------------------------------------- what is served


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The queues to serve, and those of the configuration that are left out."""

    served: Mapping[str, QueueConfig]
    skipped: Mapping[str, str]
    """Queue → why."""


def select(
    config: FleetConfig, pools: Collection[str] | None = None, queues: Collection[str] | None = None
) -> Selection:
    """Choose by pool and queue; None means all.

    Raises:
        SelectionError: a name is not in the configuration, or nothing is left to serve.
    """
    for what, asked, known in (("pool", pools, config.pools), ("queue", queues, config.queues)):
        for name in asked or ():
            if name not in known:
                raise SelectionError(f"there is no {what} '{name}'; the configuration has {', '.join(sorted(known))}")
    chosen = {
        name: entry
        for name, entry in config.queues.items()
        if (pools is None or entry.pool in pools) and (queues is None or name in queues)
    }
    available = modules.available()
    served = {name: entry for name, entry in chosen.items() if name in available}
    skipped = {name: "not served yet: this version has no module for it" for name in chosen if name not in available}
    if not served:
        asked_for = ", ".join(sorted(chosen)) or "no queue"
        raise SelectionError(f"nothing to serve: {asked_for} was asked for, modules exist for {', '.join(available)}")
    return Selection(served=served, skipped=skipped)


def check_options(loaded: LoadedConfig) -> list[ConfigIssue]:
    """What the queues' own modules say about their `task.options`; empty when all is well."""
    issues: list[ConfigIssue] = []
    for queue in sorted(modules.available() & set(loaded.config.queues)):
        try:
            loaded.options(queue, _module(queue).options)
        except ConfigError as error:
            issues.extend(error.issues)
    return issues


def _module(queue: str) -> QueueModule[Any, Any]:
    return modules.discover({queue})[queue]


# ------------------------------------------------------------------- one process


def queue_process(config: FleetConfig, selection: Selection, *, name: str, emit: Emitter) -> FleetProcess:
    """The queues of one process, without a server of its own."""
    endpoint = Endpoint(
        url=config.redis.url,
        prefix=config.redis.prefix,
        connect_timeout_s=config.redis.connect_timeout,
        command_timeout_s=config.redis.command_timeout,
    )
    client = endpoint.commands()
    worker_name = f"{name}@{socket.gethostname()}"

    def opener(queue: str, entry: QueueConfig) -> OpenQueue:
        async def open_queue(stack: AsyncExitStack) -> FleetWorker:
            module = _module(queue)
            options = module.options.model_validate(entry.task.options)
            process = await stack.enter_async_context(
                module.open(Services(queue=queue, slots=entry.concurrency), options)
            )
            plan = Plan(
                process=process,
                classify=module.classify,
                timeout_s=entry.task.timeout,
                retry=_retry_policy(entry.task.retry),
            )
            executor = Executor({module.task.type_name(): plan}, _limits(entry))
            return FleetWorker(
                queue,
                executor.execute,
                client=client,
                blocking=endpoint.blocking(queue, worker_name),
                prefix=config.redis.prefix,
                settings=_worker_settings(config, entry, worker_name),
                emit=emit,
                types=frozenset({module.task.type_name()}),
            )

        return open_queue

    return FleetProcess(
        name=name,
        examine=lambda: examine(client, allow_eviction=config.redis.allow_eviction),
        queues={queue: opener(queue, entry) for queue, entry in selection.served.items()},
        close=client.aclose,
        redis=endpoint.display,
        skipped=selection.skipped,
    )


def _retry_policy(retry: RetryConfig) -> RetryPolicy:
    return RetryPolicy(
        attempts=retry.attempts,
        delay_s=retry.backoff.delay_s,
        factor=retry.backoff.factor,
        max_s=retry.backoff.max_s,
        jitter=retry.jitter,
        over_job=frozenset(retry.over_job),
    )


def _limits(entry: QueueConfig) -> Limits:
    return Limits(
        max_data_bytes=entry.max_data,
        unknown_delay_s=entry.on_unknown.delay,
        unknown_give_up_s=entry.on_unknown.give_up,
    )


def _worker_settings(config: FleetConfig, entry: QueueConfig, name: str) -> WorkerSettings:
    rate = entry.rate
    return WorkerSettings(
        name=name,
        slots=entry.concurrency,
        lock_ms=round(entry.lock * 1000),
        max_stalls=entry.stalls,
        limiter={"max": rate.count, "duration": round(rate.per_s * 1000)} if rate else None,
        keep_completed=entry.keep.completed.to_bullmq(),
        keep_failed=entry.keep.failed.to_bullmq(),
        links_only=config.tracing.parent == "link",
    )


# --------------------------------------------------------------------- the fleet


class Runner(Protocol):
    """What serves the queues: one process, or a supervisor of several."""

    drained: bool

    async def start(self) -> None: ...
    async def wait(self) -> None: ...
    async def stop(self, *, by: float) -> None: ...
    @property
    def started(self) -> bool: ...
    @property
    def ready(self) -> bool: ...
    def states(self) -> list[State]: ...
    def health(self) -> State: ...


class Fleet:
    """The runner with its server of health and metrics. A Service."""

    name = "fleet"

    def __init__(
        self,
        runner: Runner,
        config: FleetConfig,
        selection: Selection,
        exposition: Callable[[], bytes],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._runner = runner
        self._close = close
        self._server = OpsServer(
            config.http.host,
            config.http.port,
            checks=self.checks,
            metrics=lambda: (exposition(), metrics.CONTENT_TYPE),
        )
        self.served = tuple(selection.served)
        self.skipped = selection.skipped

    async def start(self) -> None:
        """Serve health at once, jobs as soon as Redis answers."""
        await self._server.start()
        await self._runner.start()

    async def wait(self) -> None:
        """Return after `stop`; raise what ended the runner."""
        await self._runner.wait()

    async def stop(self, *, by: float) -> None:
        """Drain by `by` (monotonic seconds); again: hurry."""
        await self._runner.stop(by=by)
        await self._server.stop(by=by)
        await self._close()

    @property
    def url(self) -> str:
        """Of health and metrics."""
        return self._server.url

    @property
    def drained(self) -> bool:
        """After `stop`: every job was finished or handed back."""
        return self._runner.drained

    def health(self) -> State:
        """All in one line. No I/O."""
        return self._runner.health()

    def checks(self) -> Sequence[Check]:
        """Named checks for the probes. Only the loop itself gates liveness: a restart mends no dependency."""
        states = self._runner.states()
        return [
            Check("loop", True, "the event loop answers", frozenset({"live"})),
            Check("started", self._runner.started, "queues are open", frozenset({"startup"})),
            *(Check(state.name, state.ok, state.detail, frozenset({"ready"})) for state in states),
        ]


def build_process(
    config: FleetConfig,
    *,
    name: str = "fleet",
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    listeners: Sequence[Listener] = (),
) -> Fleet:
    """All in this process.

    Raises:
        SelectionError: see `select`.
    """
    selection = select(config, pools, queues)
    registry = CollectorRegistry()
    emit, close = _telemetry(config, registry, listeners)
    process = queue_process(config, selection, name=name, emit=emit)
    return Fleet(process, config, selection, lambda: metrics.exposition(registry), close)


def build_fleet(
    config: FleetConfig,
    command: Sequence[str],
    *,
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
) -> Fleet:
    """A supervisor with `processes` children a pool, started with `command`, which ends in `serve_pool`.

    Raises:
        SelectionError: see `select`.
    """
    selection = select(config, pools, queues)
    directory = Path(tempfile.mkdtemp(prefix="fleet-metrics-"))
    used = sorted({entry.pool for entry in selection.served.values()})
    specs = [
        _child(config, selection, pool, number, command, directory)
        for pool in used
        for number in range(config.pools[pool].processes)
    ]
    supervisor = Supervisor(specs, on_death=lambda pid: metrics.forget_process(directory, pid))

    async def close() -> None:
        await asyncio.to_thread(shutil.rmtree, directory, True)

    return Fleet(supervisor, config, selection, lambda: metrics.merged_exposition(directory), close)


class PoolBrief(BaseModel):
    """What a supervisor tells a child on its standard input, as one JSON line."""

    model_config = ConfigDict(frozen=True)

    name: str
    config: FleetConfig
    queues: tuple[str, ...]


def _child(
    config: FleetConfig, selection: Selection, pool: str, number: int, command: Sequence[str], directory: Path
) -> ChildSpec:
    name = f"{pool}-{number}"
    queues = tuple(queue for queue, entry in selection.served.items() if entry.pool == pool)
    brief = PoolBrief(name=name, config=config, queues=queues)
    return ChildSpec(
        name=name,
        argv=(*command, "{beat_fd}"),
        stdin=brief.model_dump_json().encode() + b"\n",
        grace_s=config.pools[pool].grace,
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )


@asynccontextmanager
async def serve_pool(brief: PoolBrief) -> AsyncIterator[FleetProcess]:
    """One child of a supervisor: the process, not started yet, and its telemetry around it."""
    emit, close = _telemetry(brief.config, CollectorRegistry(), ())
    selection = select(brief.config, None, brief.queues)
    try:
        yield queue_process(brief.config, selection, name=brief.name, emit=emit)
    finally:
        await close()


def _telemetry(
    config: FleetConfig, registry: CollectorRegistry, listeners: Sequence[Listener]
) -> tuple[Emitter, Callable[[], Awaitable[None]]]:
    logs.configure(config.log)
    traces = tracing.configure(config.tracing)
    emit = Emitter()
    for listener in (metrics.Metrics(registry), JobLog(), *listeners):
        emit.subscribe(listener)

    async def close() -> None:
        await asyncio.to_thread(traces.shutdown, 3.0)

    return emit, close


producer = adder

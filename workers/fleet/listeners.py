"""What listens in a process that runs jobs: logs, metrics, traces, watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry

from config.schema import FleetConfig
from workers.broker.emitter import Emitter, Listener
from workers.broker.endpoint import Endpoint
from workers.runtime.isolation import left_behind
from workers.runtime.process import FleetProcess
from workers.runtime.rss import resident
from workers.runtime.supervision.beat import Beat
from workers.runtime.supervision.vitals import Vitals
from workers.runtime.watchdog import Watchdog
from workers.telemetry import logs, tracing
from workers.telemetry.job_log import JobLog
from workers.telemetry.leak_watch import LeakWatch
from workers.telemetry.loop_lag import LoopLag
from workers.telemetry.metrics import Metrics
from workers.telemetry.redaction import redact_text
from workers.telemetry.tracing import Tracing


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


def telemetry(config: FleetConfig, endpoint: Endpoint, name: str, listeners: Sequence[Listener] = ()) -> Telemetry:
    """Logs and traces as configured, and all that listens, wired to one emitter."""
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
        metrics.runtime.left_behind(left_behind.counts())
        leaks.look()

    loop = LoopLag(measured, beside=[watchdog])
    return Telemetry(emit, registry, loop, tracing.configure(config.tracing), vitals)

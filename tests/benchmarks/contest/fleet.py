"""FleetWorker, bare and with all that a fleet puts round it."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.contest.kind import LOCK_MS, Kind
from tests.fleet_worker import Served
from workers.broker.activation import Activation
from workers.broker.emitter import Emitter
from workers.broker.endings import Completed, Ending
from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, JobCompleted
from workers.broker.hold import Hold


class Bare(Kind):
    """FleetWorker with a function as its execution, as the package's worker has one."""

    async def open(self, queue: str, slots: int) -> None:
        self._served = Served(
            self.execute,
            endpoint=Endpoint(url=self.url),
            emit=self.emit(),
            queue=queue,
            slots=slots,
            lock_ms=LOCK_MS,
        )
        await self._served.worker.start()

    async def close(self) -> None:
        await self._served.stop(5)

    async def execute(self, job: Activation, hold: Hold) -> Ending:
        await self.tally.work(job.id)
        return Completed(result=None)

    def emit(self) -> Any:
        return self._hear

    def _hear(self, event: Event) -> None:
        if isinstance(event, JobCompleted):
            self.tally.completed()


class Whole(Bare):
    """FleetWorker with what `workers/fleet` puts round it: executor, metrics, a log line a job (to nowhere)."""

    def __init__(self, url: str) -> None:
        # Imported here: the bare worker is weighed without what it does not use.
        from workers.contract import retry_all
        from workers.runtime.executor import Executor, Limits, Plan
        from workers.runtime.isolation.inline import Inline
        from workers.runtime.ladder import Ladder
        from workers.runtime.retry import RetryPolicy

        super().__init__(url)
        plan = Plan(
            isolation=Inline(self._process),
            classify=retry_all,
            ladder=Ladder.timeout(3600),
            retry=RetryPolicy(attempts=1),
        )
        limits = Limits(max_data_bytes=1_000_000, unknown_delay_s=30, unknown_give_up_s=3600)
        self._executor = Executor({"email-send": plan}, limits)
        self._emitter = self._listened()

    async def execute(self, job: Activation, hold: Hold) -> Ending:
        return await self._executor.execute(job, hold)

    async def _process(self, task: Any, ctx: Any) -> None:
        await self.tally.work(ctx.job_id)

    def emit(self) -> Any:
        return self._emitter

    def _listened(self) -> Emitter:
        from prometheus_client import CollectorRegistry

        from config.schema import LogConfig
        from workers.telemetry import logs
        from workers.telemetry.job_log import JobLog
        from workers.telemetry.metrics import Metrics

        logs.configure(LogConfig())
        emitter = Emitter()
        for listener in (Metrics(CollectorRegistry()), JobLog(), self._hear):
            emitter.subscribe(listener)
        return emitter

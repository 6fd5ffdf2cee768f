"""One job in a slot, from active to its ending."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from opentelemetry.trace import Span

from workers.broker import running, spans
from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.cancellations import Cancellations
from workers.broker.checkpoints import Checkpoints
from workers.broker.doorman import Doorman
from workers.broker.endings import CANCELLED, Ending, Failed, Lost
from workers.broker.events import JobActive, JobProgress, JobRung, RungName
from workers.broker.execution import Execution
from workers.broker.finish import Finish, stored
from workers.broker.gate import Gate
from workers.broker.hold import Hold, Interrupt
from workers.broker.leases import Leases
from workers.broker.reports import Reports, ended
from workers.broker.running import Running
from workers.broker.settings import WorkerSettings


class JobRun:
    """What is done with each job of a worker, in whichever slot: held, run, written, told.

    Args:
        closing: whether the worker takes no more jobs.
        before: done first, while the job is held; the ending of a job that is not to run. Must not raise.
        describe: how a reason is written on a span; takes the secrets out.
        on_failed: told each job that has failed for good, once Redis has it, with its span; none that somebody has
            cancelled. Must not raise.
    """

    def __init__(
        self,
        queue: str,
        backend: FleetBackend,
        settings: WorkerSettings,
        *,
        execution: Execution,
        gate: Gate,
        doorman: Doorman,
        leases: Leases,
        checkpoints: Checkpoints,
        cancellations: Cancellations,
        reports: Reports,
        closing: Callable[[], bool],
        before: Callable[[Activation], Awaitable[Ending | None]],
        describe: Callable[[str], str],
        on_failed: Callable[[Activation, Failed, Span], None] | None,
    ) -> None:
        self._queue, self._backend, self._settings = queue, backend, settings
        self._execution, self._gate, self._doorman = execution, gate, doorman
        self._leases, self._checkpoints, self._reports = leases, checkpoints, reports
        self._cancellations = cancellations
        self._closing, self._before = closing, before
        self._describe, self._on_failed = describe, on_failed

    async def work(self, job: Activation) -> Activation | None:
        """One job from active to its ending; the next job, if it came back with the ending."""
        span = spans.start(job, self._settings.name, links_only=self._settings.links_only)
        hold = Hold(
            job,
            self._backend,
            self._reports.error,
            on_progress=lambda value: self._reports.emit(JobProgress(**self._reports.about(job, span), value=value)),
            on_rung=partial(self._tell_rung, job, span),
            checkpoints=self._checkpoints,
        )
        self._leases.add(hold)
        about = self._reports.about(job, span)
        running.begin(Running(self._queue, about["task_type"], job.id, span))
        started = time.monotonic()
        ending: Ending = Lost(reason="its slot was cancelled")
        try:
            with structlog.contextvars.bound_contextvars(
                queue=self._queue, job_id=job.id, job_name=job.name, attempt=job.attempts_made + 1
            ):
                self._reports.emit(JobActive(**about, wait_s=job.wait_s))
                if self._closing():
                    hold.ask_back(Interrupt("drain", "the worker is shutting down", time.monotonic()))
                ending = stored(await self._ending(job, hold, span), job, self._reports.error)
                hold.bound(float("inf"))  # the loop is alive; the lock must last until Redis has the ending
                finish = Finish(
                    self._backend, job, ending, self._reports.error, self._reports.up, self._settings.reconnect
                )
                ending, fetched = await finish.write(lambda: not self._closing() and not self._doorman.limited)
        finally:
            running.end()
            self._leases.remove(hold)
            spans.finish(span, ending, self._describe, memory=hold.memory)
        self._reports.emit(ended(ending, {**about, "memory": hold.memory}, time.monotonic() - started))
        hold.settle_checkpoint(ending)
        self._cancellations.settle(hold, ending)
        if isinstance(ending, Failed) and self._on_failed is not None and ending.error != CANCELLED:
            self._on_failed(job, ending, span)
        self._doorman.note(fetched)
        if self._closing() and not isinstance(ending, Lost):
            await self._wake_others()
        return fetched.activation

    async def _ending(self, job: Activation, hold: Hold, span: Span) -> Ending:
        refused = await self._before(job) or await self._gate.ending(job)
        return refused or self._gate.after(await self._execution.run(job, hold, span), job)

    def _tell_rung(self, job: Activation, span: Span, rung: RungName, after_s: float, attempt: int) -> None:
        spans.rung(span, rung, after_s, attempt)
        about = self._reports.about(job, span)
        self._reports.emit(JobRung(**about, rung=rung, after_s=after_s, attempt_of_rung=attempt))

    async def _wake_others(self) -> None:
        try:
            await self._backend.wake()
        except Exception as error:
            self._reports.error(error, "wake")

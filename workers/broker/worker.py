"""FleetWorker: a queue's slots. A slot is fetch → execute → finish, for ever, whatever the job does.

A bad job never hurts a worker: the slot waits on the execution's task and never awaits it, so an exception, a
cancellation or a BaseException ends that job only. "Completed" is said after Redis agreed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import structlog
from bullmq import Job, Worker
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span
from redis.asyncio import Redis

from workers.broker import spans
from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, FleetBackend
from workers.broker.doorman import Doorman
from workers.broker.endings import Completed, Ending, Failed, Lost
from workers.broker.events import (
    ConnectionChanged,
    Event,
    JobActive,
    JobProgress,
    JobStalled,
    QueueDrained,
    WorkerError,
    WorkerState,
)
from workers.broker.finish import Finish
from workers.broker.gate import Gate
from workers.broker.hold import Hold, Interrupt
from workers.broker.leases import Leases
from workers.broker.renewer import Renewer
from workers.broker.reports import ended
from workers.broker.result import dump, message
from workers.broker.settings import WorkerSettings

Execute: TypeAlias = Callable[[Activation, Hold], Awaitable[Ending]]
Emit: TypeAlias = Callable[[Event], None]

#: Of the time that `stop` gives, the share (and the most seconds) kept for writing hand-backs.
STOP_RESERVE, STOP_RESERVE_MAX_S = 0.3, 3.0


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """A worker's own check."""

    ok: bool
    detail: str


class CancelledSlotError(Exception):
    """A slot's task was cancelled by code that is not ours."""

    def __init__(self, number: int) -> None:
        super().__init__(f"slot {number} was cancelled from outside and is opened anew")


class UnstorableResultError(Exception):
    """A result that JSON can't carry; a placeholder is stored."""


class FleetWorker(Worker):  # type: ignore[misc]
    """A BullMQ worker for one queue; a Service (start, wait, stop, health).

    Args:
        queue: the queue's name in Redis.
        execute: runs one job and says how it ends; touches no Redis itself. May be cancelled.
        client: commands; shared with other workers, closed by whoever made it.
        blocking: this worker's own connection for BZPOPMIN; closed on stop.
        renewer: keeps the locks; shared with other workers, stopped by whoever made it.
        types: the known task types, the bounded set for labels.
        describe: how a reason is written on a span; takes the secrets out.
    """

    def __init__(
        self,
        queue: str,
        execute: Execute,
        *,
        client: Redis,
        blocking: Redis,
        prefix: str,
        settings: WorkerSettings,
        renewer: Renewer,
        emit: Emit,
        types: frozenset[str] = frozenset(),
        describe: Callable[[str], str] = str,
    ) -> None:
        options = {
            "connection": client,
            "prefix": prefix,
            "name": settings.name,
            "autorun": False,
            "concurrency": settings.slots,
            "lockDuration": settings.lock_ms,
            "stalledInterval": settings.stalled_interval_ms,
            "maxStalledCount": settings.max_stalls,
            "drainDelay": settings.drain_delay_s,
        }
        super().__init__(queue, None, options)
        self.settings = settings
        self.backend: FleetBackend = FleetBackend(queue, client, blocking, prefix, settings)
        self._execute = execute
        self._blocking = blocking
        self._types = types
        self._describe = describe
        self._report = emit
        self._renewer = renewer
        self._leases = Leases(queue, settings.lock_ms, renewer, self._error)
        self._doorman = Doorman(
            self.backend,
            settings.drain_delay_s,
            self._error,
            self._up,
            max_limit_s=settings.max_limit_s,
            reconnect=settings.reconnect,
            on_drained=lambda: emit(QueueDrained(queue=queue)),
        )
        self._gate = Gate(self.backend, settings, self._doorman.limit, self._error)
        self._slots: list[asyncio.Task[None]] = []
        self._loops: list[asyncio.Task[None]] = []
        self._opened = 0
        self._over = asyncio.Event()
        self._torn_down = False
        self._stopping: asyncio.Task[None] | None = None
        self.is_up = True
        """Redis answered when it was last asked."""
        self.closed = False
        self.drained = True
        """After `stop`: whether every job was finished or handed back."""

    # ------------------------------------------------------------------ Service

    async def start(self) -> None:
        """Open the slots. Redis need not be there yet: they keep trying."""
        if self._slots or self.closing:
            raise RuntimeError(f"the worker of {self.name} was started or stopped before")
        self.running = True
        self._renewer.start()
        self._loops = [self._watch_stalled()]
        self._slots = [self._open_slot(n) for n in range(self.settings.slots)]
        self._report(WorkerState(queue=self.name, state="running", slots=self.settings.slots))

    async def wait(self) -> None:
        """Return after `stop`; raise what ended a slot by itself, which is a defect of ours."""
        if self._slots:
            await self._over.wait()
        for slot in self._slots:
            if slot.done() and not slot.cancelled() and (error := slot.exception()):
                raise error
        if self._stopping is not None:
            await asyncio.wait({self._stopping})

    async def stop(self, *, by: float) -> None:
        """Fetch no more; let running jobs end until shortly before `by` (monotonic seconds), then hand them back.

        A second call with a nearer `by` hurries the first one.
        """
        self.closing = True
        self._doorman.close()
        now = time.monotonic()
        reserve = min(STOP_RESERVE_MAX_S, max(0.0, by - now) * STOP_RESERVE)
        # Half of the reserve is for the runs to clean up, half for writing.
        self._leases.ask_back(Interrupt("drain", "the worker is shutting down", by - reserve, reserve / 2))
        if self._stopping is None:
            self._report(WorkerState(queue=self.name, state="draining", slots=self.settings.slots))
            self._stopping = asyncio.create_task(self._close())
        await asyncio.wait({self._stopping}, timeout=max(0.0, by - time.monotonic()))
        if not self._stopping.done():
            self.drained = not self._leases
            self._torn_down = True
            for task in (*self._slots, self._stopping):
                task.cancel()
            await asyncio.wait({*self._slots, self._stopping}, timeout=1.0)
            await self._end()

    def health(self) -> WorkerHealth:
        """Whether the slots live and Redis answers them."""
        dead = [t for t in self._slots if t.done() and not self.closing]
        if dead:
            return WorkerHealth(False, f"{len(dead)} of {len(self._slots)} slots died")
        if self.closing:
            return WorkerHealth(False, f"draining, {len(self._leases)} jobs left")
        if not self._slots:
            return WorkerHealth(False, "not started")
        busy = f"{len(self._leases)} of {len(self._slots)} slots busy"
        return WorkerHealth(self.is_up, busy if self.is_up else f"Redis does not answer; {busy}")

    # ------------------------------------------------------- BullMQ's own names

    async def run(self) -> None:
        """Start and stay until closed."""
        await self.start()
        await self.wait()

    async def close(self, force: bool = False) -> None:
        """Stop within 30 seconds; with `force` hand running jobs back at once."""
        await self.stop(by=time.monotonic() + (1.0 if force else 30.0))

    async def rate_limit(self, ms: int) -> None:
        """Start no job of this queue for so long, in any worker that keeps to BullMQ's limits: Node's `rateLimit`.

        Raises:
            redis.exceptions.RedisError, OSError: it could not be set.
        """
        self._doorman.limit(await self.backend.limit(ms))

    def emit(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        """What the package's own code reports, as events of ours."""
        if event_name == "stalled" and args:
            self._report(JobStalled(queue=self.name, job_id=str(args[0])))
        elif event_name == "error" and args and isinstance(args[0], BaseException):
            self._error(args[0], "bullmq")

    # --------------------------------------------------------------- one slot

    def _open_slot(self, number: int) -> asyncio.Task[None]:
        self._opened += 1
        slot = asyncio.create_task(self._slot(f"{self.id}:{self._opened}"))
        slot.add_done_callback(partial(self._slot_ended, number))
        return slot

    def _slot_ended(self, number: int, slot: asyncio.Task[None]) -> None:
        """A slot that was cancelled by code of a job's is opened anew; the stalled check has what it held."""
        if slot.cancelled() and not self.closing:
            self._error(CancelledSlotError(number), "slot")
            self._slots[number] = self._open_slot(number)
        elif not slot.cancelled() and slot.exception() is not None:
            self._over.set()

    async def _slot(self, token: str) -> None:
        job: Activation | None = None
        while True:
            job = job or await self._doorman.next(token)
            if job is None:
                return
            job = await self._work(job)

    async def _work(self, job: Activation) -> Activation | None:
        """One job from active to its ending; the next job, if it came back with the ending."""
        span = spans.start(job, self.settings.name, links_only=self.settings.links_only)
        hold = Hold(
            job,
            self.backend,
            self._error,
            on_progress=lambda value: self._report(JobProgress(**self._about(job, span), value=value)),
        )
        self._leases.add(hold)
        started = time.monotonic()
        ending: Ending = Lost(reason="its slot was cancelled")
        try:
            with structlog.contextvars.bound_contextvars(
                queue=self.name, job_id=job.id, job_name=job.name, attempt=job.attempts_made + 1
            ):
                self._report(JobActive(**self._about(job, span), wait_s=job.wait_s))
                if self.closing:
                    hold.ask_back(Interrupt("drain", "the worker is shutting down", time.monotonic()))
                await self._advance_scheduler(job)
                ending = self._stored(await self._ending(job, hold, span), job)
                hold.bound(float("inf"))  # the loop is alive; the lock must last until Redis has the ending
                finish = Finish(self.backend, job, ending, self._error, self._up, self.settings.reconnect)
                ending, fetched = await finish.write(lambda: not self.closing and not self._doorman.limited)
        finally:
            self._leases.remove(hold)
            spans.finish(span, ending, self._describe)
        self._report(ended(ending, self._about(job, span), time.monotonic() - started))
        self._doorman.note(fetched)
        if self.closing and not isinstance(ending, Lost):
            await self._wake_others()
        return fetched.activation

    async def _ending(self, job: Activation, hold: Hold, span: Span) -> Ending:
        refused = await self._gate.ending(job)
        return refused or self._gate.after(await self._run_once(job, hold, span), job)

    def _stored(self, ending: Ending, job: Activation) -> Ending:
        """A result that JSON can't carry is stored as a placeholder that says so; the job stays a success."""
        if not isinstance(ending, Completed):
            return ending
        text, problem = dump(ending.result)
        if problem is not None:
            self._error(UnstorableResultError(problem), "result", job.id)
        return replace(ending, text=text)

    async def _wake_others(self) -> None:
        try:
            await self.backend.wake()
        except Exception as error:
            self._error(error, "wake")

    async def _run_once(self, job: Activation, hold: Hold, span: Span) -> Ending:
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            task: asyncio.Future[Ending] = asyncio.ensure_future(self._execute(job, hold))
        finally:
            otel_context.detach(token)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                if self._torn_down:  # the executor must not outlive its slot
                    task.add_done_callback(_see)
                    task.cancel()
                    raise
                _uncancel()  # by code of a job's that cancels every task it finds
        if task.cancelled():
            return Failed(reason="the execution was cancelled from outside", error="CancelledError")
        error = task.exception()
        if error is None:
            return task.result()
        self._error(error, "execute", job.id)
        name = type(error).__name__
        return Failed(reason=f"{name}: {message(error, MAX_REASON)}", error=name)

    async def _advance_scheduler(self, job: Activation) -> None:
        """The next run of a job scheduler is made when this one starts, as Node's nextJobFromJobData does it."""
        if job.scheduler is None or job.attempts_made or job.stalls:
            return
        try:
            await self._scheduleNextIteration(Job.fromJSON(self, dict(job.raw), job.id))
        except Exception as error:
            self._error(error, "scheduler", job.id)

    # -------------------------------------------------------------- background

    def _watch_stalled(self) -> asyncio.Task[None]:
        watch = asyncio.create_task(self._check_stalled())
        watch.add_done_callback(self._watch_ended)
        return watch

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if watch.cancelled() and not self.closed:
            self._loops = [self._watch_stalled()]

    async def _check_stalled(self) -> None:
        while True:
            await self.runStalledJobsCheck()
            await asyncio.sleep(self.settings.stalled_interval_ms / 1000)

    async def _close(self) -> None:
        if self._slots:
            await asyncio.wait(self._slots)
        for slot in self._slots:
            if not slot.cancelled() and (error := slot.exception()):
                self.drained = False  # its job, if it had one, is left to the stalled check
                self._error(error, "slot")
        await self._end()

    async def _end(self) -> None:
        if self.closed:
            return
        self.closed, self.running = True, False
        self._over.set()
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops, timeout=1.0)
        try:
            await self._blocking.aclose()
        except Exception as error:
            self._error(error, "close")
        self._report(WorkerState(queue=self.name, state="closed", slots=self.settings.slots))

    # ----------------------------------------------------------------- telling

    def _about(self, job: Activation, span: Span) -> dict[str, Any]:
        return {
            "queue": self.name,
            "job_id": job.id,
            "job_name": job.name,
            "task_type": job.type if job.type in self._types else "unknown",
            "attempt": job.attempts_made + 1,
            "trace_id": spans.trace_id(span),
        }

    def _error(self, error: BaseException, where: str, job_id: str = "") -> None:
        self._report(WorkerError(queue=self.name, where=where, error=error, job_id=job_id))
        if self.is_up and isinstance(error, Exception) and self.isConnectionError(error):
            self.is_up = False
            self._report(ConnectionChanged(queue=self.name, up=False, detail=str(error)))

    def _up(self) -> None:
        if not self.is_up:
            self.is_up = True
            self._report(ConnectionChanged(queue=self.name, up=True, detail=""))


def _see(task: asyncio.Future[Ending]) -> None:
    """Look at what a cancelled execution raised, so that the loop does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()

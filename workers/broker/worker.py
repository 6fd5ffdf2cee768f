"""FleetWorker: a queue's slots. A slot is fetch → execute → finish, for ever, whatever the job does.

A bad job never hurts a worker: the slot waits on the execution's task and never awaits it, so an exception, a
cancellation or a BaseException ends that job only. "Completed" is said after Redis agreed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bullmq import Worker
from opentelemetry.trace import Span
from redis.asyncio import Redis

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.cancellations import Cancellations
from workers.broker.checkpoints import CLOSE_S, Checkpoints
from workers.broker.doorman import Doorman
from workers.broker.endings import Failed
from workers.broker.events import JobStalled, QueueDrained, QueuePaused, WorkerState
from workers.broker.execution import Execute, Execution
from workers.broker.gate import Gate
from workers.broker.hold import Interrupt
from workers.broker.job_run import JobRun
from workers.broker.keys import TOKEN_PREFIX
from workers.broker.leases import Leases
from workers.broker.loop import Loop
from workers.broker.pause import PauseWatch
from workers.broker.renewer import Renewer
from workers.broker.reports import Emit, Reports
from workers.broker.scheduled import ScheduledRuns
from workers.broker.settings import WorkerSettings

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
        on_failed: told each job that has failed for good, once Redis has it, with its span. Must not raise.
        trouble: why no job can be run at all; empty while they can be.
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
        on_failed: Callable[[Activation, Failed, Span], None] | None = None,
        trouble: Callable[[], str] = str,
    ) -> None:
        super().__init__(queue, None, {"connection": client, "prefix": prefix, **settings.options()})
        self.settings = settings
        self.backend: FleetBackend = FleetBackend(queue, client, blocking, prefix, settings)
        self._reports = Reports(queue, emit, types, self.isConnectionError)
        self._trouble = trouble
        self._blocking = blocking
        self._renewer = renewer
        self._leases = Leases(queue, settings.lock_ms, renewer, self._reports.error)
        self._checkpoints = Checkpoints(client, prefix, queue, self._reports.error)
        self._cancellations = Cancellations(client, prefix, queue, lambda: self._leases.holds, self._reports.error)
        self._left_over = (self._checkpoints, self._cancellations)
        self._doorman = Doorman(
            self.backend,
            settings.drain_delay_s,
            self._reports.error,
            self._reports.up,
            max_limit_s=settings.max_limit_s,
            reconnect=settings.reconnect,
            on_drained=lambda: emit(QueueDrained(queue=queue)),
        )
        self._pause = PauseWatch(
            self.backend,
            lambda paused: emit(QueuePaused(queue=queue, paused=paused)),
            self._reports.error,
            settings.pause_look_s,
        )
        self._run = JobRun(
            self.name,
            self.backend,
            settings,
            execution=Execution(execute, self._reports.error, lambda: self._torn_down),
            gate=Gate(self.backend, settings, self._doorman.limit, self._reports.error),
            doorman=self._doorman,
            leases=self._leases,
            checkpoints=self._checkpoints,
            cancellations=self._cancellations,
            reports=self._reports,
            closing=lambda: self.closing,
            before=ScheduledRuns(self, self._reports.error).begin,
            describe=describe,
            on_failed=on_failed,
        )
        self._slots: list[Loop] = []
        self._loops: list[Loop] = []
        self._opened = 0
        self._over = asyncio.Event()
        self._torn_down = False
        self._stopping: asyncio.Task[None] | None = None
        self.closed = False
        self.drained = True
        """After `stop`: whether every job was finished or handed back."""

    @property
    def is_up(self) -> bool:
        """Redis answered when it was last asked."""
        return self._reports.is_up

    # ------------------------------------------------------------------ Service

    async def start(self) -> None:
        """Open the slots. Redis need not be there yet: they keep trying."""
        if self._slots or self.closing:
            raise RuntimeError(f"the worker of {self.name} was started or stopped before")
        self.running = True
        self._renewer.start()
        self._loops = [
            Loop(self._check_stalled, on_failed=lambda error: self._reports.error(error, "stalled-check")),
            Loop(self._pause.run, on_failed=lambda error: self._reports.error(error, "pause")),
            Loop(self._cancellations.run, on_failed=lambda error: self._reports.error(error, "cancel")),
        ]
        self._slots = [self._slot(n) for n in range(self.settings.slots)]
        self._reports.emit(WorkerState(queue=self.name, state="running", slots=self.settings.slots))

    async def wait(self) -> None:
        """Return after `stop`; raise what ended a slot by itself, which is a defect of ours."""
        if self._slots:
            await self._over.wait()
        for slot in self._slots:
            if slot.error is not None:
                raise slot.error
        if self._stopping is not None:
            await asyncio.wait({self._stopping})

    async def stop(self, *, by: float) -> None:
        """Fetch no more; let running jobs end until shortly before `by` (monotonic seconds), then hand them back.

        A second call with a nearer `by` hurries the first one.
        """
        self.closing = True
        self._doorman.close()
        for slot in self._slots:
            slot.settle()
        now = time.monotonic()
        reserve = min(STOP_RESERVE_MAX_S, max(0.0, by - now) * STOP_RESERVE)
        # Half of the reserve is for the runs to clean up, half for writing.
        self._leases.ask_back(Interrupt("drain", "the worker is shutting down", by - reserve, reserve / 2))
        if self._stopping is None:
            self._reports.emit(WorkerState(queue=self.name, state="draining", slots=self.settings.slots))
            self._stopping = asyncio.create_task(self._close())
        await asyncio.wait({self._stopping}, timeout=max(0.0, by - time.monotonic()))
        if not self._stopping.done():
            self.drained = not self._leases
            self._torn_down = True
            tasks = {*(slot.task for slot in self._slots), self._stopping}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
            await self._end()

    def health(self) -> WorkerHealth:
        """Whether the slots live and Redis answers them."""
        dead = [slot for slot in self._slots if slot.task.done() and not self.closing]
        if dead:
            return WorkerHealth(False, f"{len(dead)} of {len(self._slots)} slots died")
        if self.closing:
            return WorkerHealth(False, f"draining, {len(self._leases)} jobs left")
        if not self._slots:
            return WorkerHealth(False, "not started")
        busy = f"{len(self._leases)} of {len(self._slots)} slots busy"
        if self._pause.paused:
            busy += "; the queue is paused for everyone, until queue.resume() is called"
        if trouble := self._trouble():
            return WorkerHealth(False, f"{trouble}; {busy}")
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
            self._reports.emit(JobStalled(queue=self.name, job_id=str(args[0])))
        elif event_name == "error" and args and isinstance(args[0], BaseException):
            self._reports.error(args[0], "bullmq")

    # --------------------------------------------------------------- one slot

    def _slot(self, number: int) -> Loop:
        """Cancelled by code of a job's, it is opened anew; the stalled check has what it held."""
        return Loop(
            self._serve,
            on_cancelled=lambda: self._reports.error(CancelledSlotError(number), "slot"),
            on_failed=lambda error: self._over.set(),
        )

    async def _serve(self) -> None:
        self._opened += 1
        token = f"{TOKEN_PREFIX}{self.id}:{self._opened}"
        job: Activation | None = None
        while job := job or await self._doorman.next(token):
            job = await self._run.work(job)

    # -------------------------------------------------------------- background

    async def _check_stalled(self) -> None:
        while True:
            await self.runStalledJobsCheck()
            await asyncio.sleep(self.settings.stalled_interval_ms / 1000)

    async def _close(self) -> None:
        if self._slots:
            await asyncio.wait([slot.task for slot in self._slots])
        for slot in self._slots:
            if slot.error is not None:
                self.drained = False  # its job, if it had one, is left to the stalled check
                self._reports.error(slot.error, "slot")
        await self._end()

    async def _end(self) -> None:
        if self.closed:
            return
        self.closed, self.running = True, False
        self._over.set()
        for loop in self._loops:
            loop.settle()
            loop.task.cancel()
        if self._loops:
            await asyncio.wait([loop.task for loop in self._loops], timeout=1.0)
        await asyncio.gather(*(each.close(0.0 if self._torn_down else CLOSE_S) for each in self._left_over))
        try:
            await self._blocking.aclose()
        except Exception as error:
            self._reports.error(error, "close")
        self._reports.emit(WorkerState(queue=self.name, state="closed", slots=self.settings.slots))

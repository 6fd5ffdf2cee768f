"""One held job, seen from its execution: what it may tell BullMQ, and whether the host wants the slot back."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from workers.broker import notes
from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, FleetBackend
from workers.broker.checkpoints import Checkpoints, NotOursError, encoded, marked
from workers.broker.client import ReplyLostError
from workers.broker.endings import Ending
from workers.broker.events import RungName
from workers.broker.json_text import UnreadableError, read
from workers.broker.memory import JobMemory
from workers.broker.progress import check as check_progress
from workers.broker.reconnect import RECONNECT
from workers.broker.refusals import may_pass
from workers.broker.result import clean

#: How long a checkpoint may take to be read while Redis does not answer, seconds; then the run starts without it.
RESTORE_S = 10.0


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The worker wants the slot back."""

    kind: Literal["drain", "cancel", "lock_lost"]
    """cancel: somebody ended this one job; it fails for good."""
    reason: str
    by: float
    """Monotonic seconds until which the execution may still end by itself."""
    cleanup_s: float = 1.0
    """After `by`, how long a cancelled run may clean up before its slot goes on without it."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A job as the parent of others: BullMQ's `parent` option."""

    id: str
    queue_key: str
    """`<prefix>:<queue>`."""


class Hold:
    """Given to the execution together with its activation."""

    def __init__(
        self,
        job: Activation,
        backend: FleetBackend,
        on_error: Callable[[BaseException, str, str], None],
        *,
        on_progress: Callable[[Any], None] = lambda value: None,
        on_rung: Callable[[RungName, float, int], None] = lambda rung, after_s, attempt: None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.job = job
        self._backend = backend
        self._checkpoints = checkpoints
        self._mark = marked(job)
        self._on_error = on_error
        self._on_progress = on_progress
        self.on_rung = on_rung
        """Told of each try of a rung of the run's ladder: which, after how many seconds, which try of it from 1."""
        self.interrupt: Interrupt | None = None
        self.interrupted = asyncio.Event()
        """Set with the first interrupt, for what waits meanwhile."""
        self.on_interrupt: Callable[[], None] | None = None
        """Called with each interrupt that counts; the run's driver's."""
        self.last_progress: Any = None
        """What the run last said of its progress; None: nothing."""
        self.memory: JobMemory | None = None
        """What the run needed, where that is known exactly."""
        self.on_bound: Callable[[float], None] = lambda until: None

    @property
    def cancelled(self) -> bool:
        """Somebody has cancelled the job while it runs."""
        return self.interrupt is not None and self.interrupt.kind == "cancel"

    def bound(self, until: float) -> None:
        """The job's lock is renewed until then (monotonic seconds) and no longer: its last rung has passed."""
        self.on_bound(until)

    def ask_back(self, interrupt: Interrupt) -> None:
        """Interrupt the execution. A lost lock outranks a cancellation, that a drain; a nearer `by` replaces a later
        one, whatever outranks the other."""
        interrupt = interrupt if self.interrupt is None else _joined(interrupt, self.interrupt)
        if interrupt != self.interrupt:
            self.interrupt = interrupt
            self.interrupted.set()
            if self.on_interrupt is not None:
                self.on_interrupt()

    async def progress(self, value: int | float | dict[str, Any]) -> None:
        """BullMQ's updateProgress. A Redis that is away is reported, not felt: running jobs run on. A lock that turns
        out to be lost interrupts the run, and nothing is stored.

        Raises:
            ValueError, TypeError: see `progress.check`.
        """
        check_progress(value)  # before it is sent: the script is the wrong place to find out
        self.last_progress = value
        try:
            await notes.progress(self._backend, self.job, value)
        except Exception as error:
            self._failed(error, "progress")
        else:
            self._on_progress(value)

    async def log(self, line: str) -> None:
        """BullMQ's addLog, with the job's own `keepLogs`; like `progress` where Redis is away."""
        keep = self.job.opts.get("kl")
        keep_logs = keep if isinstance(keep, int) and keep > 0 else 0
        try:
            await notes.log(self._backend, self.job, clean(line, MAX_REASON), keep_logs)
        except Exception as error:
            self._failed(error, "log")

    async def checkpoint(self, state: Any) -> bool:
        """Save what a later run of the job goes on from; like `progress` where Redis is away. Returns whether it is
        stored. A lock that turns out to be lost interrupts the run.

        Raises:
            ValueError, TypeError: the state is not JSON, or larger than MAX_CHECKPOINT.
        """
        text = encoded(state)
        mark = self._mark or secrets.token_hex(8)
        try:
            if self._checkpoints is None:
                raise RuntimeError("this worker keeps no checkpoints")
            await self._checkpoints.save(self.job, mark, text)
        except asyncio.CancelledError:
            self._mark = mark  # it may be stored
            raise
        except Exception as error:
            if isinstance(error, ReplyLostError):
                self._mark = mark  # as above
            self._failed(error, "checkpoint")
            return False
        self._mark = mark
        return True

    async def restored(self) -> Any:
        """What an earlier run has saved; None: nothing, or nothing that can be read, which is reported. Asks Redis
        only where the job's row says that there is something; never raises, and gives up after RESTORE_S or when the
        slot is wanted back.
        """
        if self._checkpoints is None or self._mark is None:
            return None
        end, failures = time.monotonic() + RESTORE_S, 0
        while True:
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    return await self._checkpoints.load(self.job)
            except Exception as error:
                self._on_error(error, "checkpoint", self.job.id)
                failures += 1
                pause_s = RECONNECT.wait_s(failures)
                late = time.monotonic() + pause_s >= end
                if late or self.interrupt is not None or not may_pass(error):
                    return None
            with suppress(TimeoutError):
                await asyncio.wait_for(self.interrupted.wait(), pause_s)
                return None

    def _failed(self, error: Exception, where: str) -> None:
        self._on_error(error, where, self.job.id)
        if isinstance(error, NotOursError):
            self.ask_back(Interrupt("lock_lost", "the job's lock expired or was taken", time.monotonic()))

    def settle_checkpoint(self, ending: Ending) -> None:
        """Redis has this ending; see Checkpoints.settle. Nothing where nothing was ever saved."""
        if self._checkpoints is not None and self._mark is not None:
            self._checkpoints.settle(self.job.id, self._mark, ending)

    def parent(self) -> Parent:
        """This job as the parent of others."""
        return Parent(self.job.id, self._backend.toKey("").rstrip(":"))

    async def children_values(self) -> dict[str, Any]:
        """BullMQ's getChildrenValues: results by the child's key. Raises redis errors."""
        stored = await self._backend.getProcessedChildrenValues(self.job.id)
        return {key: _value(text) for key, text in stored.items()}

    async def children_failures(self) -> dict[str, str]:
        """BullMQ's getIgnoredChildrenFailures: reasons by the child's key. Raises redis errors."""
        failures: dict[str, str] = await self._backend.conn.hgetall(self._backend.toKey(f"{self.job.id}:failed"))
        return failures


def _value(text: str) -> Any:
    """A result as Node stores it: JSON, but an empty text for a processor that returned nothing."""
    try:
        return read(text, "returnvalue")
    except UnreadableError:
        return text or None


def _joined(new: Interrupt, former: Interrupt) -> Interrupt:
    """What counts of two."""
    if "lock_lost" in (new.kind, former.kind):
        return former if former.kind == "lock_lost" else new
    nearer = new if new.by < former.by else former
    if "cancel" not in (new.kind, former.kind) or nearer.kind == "cancel":
        return nearer
    cancel = former if former.kind == "cancel" else new
    return replace(cancel, by=nearer.by, cleanup_s=min(cancel.cleanup_s, nearer.cleanup_s))

"""One held job, seen from its execution: what it may tell BullMQ, and whether the host wants the slot back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, FleetBackend
from workers.broker.result import clean


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The worker wants the slot back."""

    kind: Literal["drain", "lock_lost"]
    reason: str
    by: float
    """Monotonic seconds until which the execution may still end by itself."""
    cleanup_s: float = 1.0
    """After `by`, how long a cancelled run may clean up before its slot goes on without it."""


class Hold:
    """Given to the execution together with its activation."""

    def __init__(
        self,
        job: Activation,
        backend: FleetBackend,
        on_error: Callable[[BaseException, str, str], None],
        *,
        on_progress: Callable[[Any], None] = lambda value: None,
    ) -> None:
        self.job = job
        self._backend = backend
        self._on_error = on_error
        self._on_progress = on_progress
        self.interrupt: Interrupt | None = None
        self.interrupted = asyncio.Event()
        """Set with the first interrupt."""
        self._waiter: asyncio.Future[None] | None = None
        self.on_bound: Callable[[float], None] = lambda until: None

    def bound(self, until: float) -> None:
        """The job's lock is renewed until then (monotonic seconds) and no longer: its last rung has passed."""
        self.on_bound(until)

    def ask_back(self, interrupt: Interrupt) -> None:
        """Interrupt the execution. A lost lock outranks a drain; a nearer `by` replaces a later one."""
        if self.interrupt is None or _outranks(interrupt, self.interrupt):
            self.interrupt = interrupt
            self.interrupted.set()
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def next_interrupt(self) -> asyncio.Future[None]:
        """Done with the next interrupt, counted from now. One caller at a time; cheaper than a task on an event."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    async def progress(self, value: int | float | dict[str, Any]) -> None:
        """BullMQ's updateProgress. A Redis that is away is reported, not felt: running jobs run on.

        Raises:
            ValueError, TypeError: the value is not JSON.
        """
        json.dumps(value, allow_nan=False)  # before it is sent: the script is the wrong place to find out
        try:
            await self._backend.updateProgress(self.job.id, value)
        except Exception as error:
            self._on_error(error, "progress", self.job.id)
        else:
            self._on_progress(value)

    async def log(self, line: str) -> None:
        """BullMQ's addLog, with the job's own `keepLogs`; like `progress` where Redis is away."""
        keep = self.job.opts.get("kl")
        keep_logs = keep if isinstance(keep, int) and keep > 0 else 0
        try:
            await self._backend.addLog(self.job.id, clean(line, MAX_REASON), keep_logs)
        except Exception as error:
            self._on_error(error, "log", self.job.id)

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
        return json.loads(text)
    except ValueError:
        return text or None


def _outranks(new: Interrupt, former: Interrupt) -> bool:
    if "lock_lost" in (new.kind, former.kind):
        return former.kind != "lock_lost"
    return new.by < former.by

"""The host's side of JobContext for processors that run on the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from tasks.base import Task
from workers.broker.backend import MAX_REASON
from workers.broker.hold import Hold, Parent
from workers.broker.result import message
from workers.contract import Effect, Ledger, Progress, StopRequest, TransientError, UnavailableError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a run may reach beyond its own job, where this fleet has it."""

    add: Callable[[Task, Parent | None], Awaitable[str]] | None = None
    """Adds a job for a task, as a child where a parent is given; returns its id."""
    ledger: Ledger | None = None


class HostContext:
    """One run of one job; implements workers.contract.JobContext.

    Args:
        hold: the job and its lock.
        deadline: monotonic seconds at which the run is ended.
        restored: what an earlier run has saved.
    """

    def __init__(
        self,
        hold: Hold,
        deadline: float,
        *,
        restored: Any = None,
        ports: Ports | None = None,
    ) -> None:
        self._hold = hold
        self._deadline = deadline
        self._ports = ports or Ports()
        self.restored = restored

    @property
    def job_id(self) -> str:
        """See JobContext."""
        return self._hold.job.id

    @property
    def attempt(self) -> int:
        """See JobContext."""
        return self._hold.job.attempts_made + 1

    @property
    def fence(self) -> int:
        """See JobContext."""
        return self._hold.job.fence

    @property
    def deadline(self) -> float:
        """See JobContext."""
        return self._deadline

    @property
    def stop(self) -> StopRequest | None:
        """See JobContext."""
        interrupt = self._hold.interrupt
        if interrupt is None:
            return None
        return StopRequest(kind=interrupt.kind, reason=interrupt.reason, by=min(interrupt.by, self._deadline))

    def decline(self, reason: str) -> None:
        """See JobContext."""

    async def progress(self, value: Progress) -> None:
        """See JobContext."""
        await self._hold.progress(value)

    async def log(self, line: str) -> None:
        """See JobContext."""
        await self._hold.log(line)

    async def checkpoint(self, state: Any) -> StopRequest | None:
        """See JobContext."""
        await self._hold.checkpoint(state)
        return self.stop

    async def add(self, task: Task, *, child: bool = False) -> str:
        """See JobContext."""
        if self._ports.add is None:
            raise UnavailableError("this fleet adds no jobs from processors")
        return await self._ports.add(task, self._hold.parent() if child else None)

    def once(self, effect: str) -> AbstractAsyncContextManager[Effect]:
        """See JobContext."""
        if self._ports.ledger is None:
            raise UnavailableError("ctx.once needs a ledger of effects, which needs a database: none is configured")
        job = self._hold.job
        return self._ports.ledger.once(job.queue, job.id, job.fence, effect)

    async def children_values(self) -> dict[str, Any]:
        """See JobContext."""
        return await _read(self._hold.children_values())

    async def children_failures(self) -> dict[str, str]:
        """See JobContext."""
        return await _read(self._hold.children_failures())


async def _read(children: Awaitable[T]) -> T:
    try:
        return await children
    except Exception as error:
        raise TransientError(f"what became of the children can't be read: {message(error, MAX_REASON)}") from error

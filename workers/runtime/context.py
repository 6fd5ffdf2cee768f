"""The host's side of JobContext: what one run may ask, answered on the event loop."""

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
from workers.runtime.requests import Requests

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a run may reach beyond its own job, where this fleet has it."""

    add: Callable[[Task, Parent | None], Awaitable[str]] | None = None
    """Adds a job for a task, as a child where a parent is given; returns its id."""
    ledger: Ledger | None = None


NO_PORTS = Ports()


class HostContext:
    """One run of one job; implements workers.contract.JobContext. Used on the loop; an isolation whose processor runs
    elsewhere forwards `stop` and `checkpoint_due` there (`on_change`), and its calls and `decline` back.

    Args:
        hold: the job and its lock.
        deadline: monotonic seconds at which the run is cancelled at the latest.
        restored: what an earlier run has saved.
        ports: what the run may reach beyond its own job.
    """

    __slots__ = ("_hold", "_ports", "requests", "restored")

    def __init__(self, hold: Hold, deadline: float, *, restored: Any = None, ports: Ports = NO_PORTS) -> None:
        self._hold = hold
        self._ports = ports
        self.requests = Requests(hold, deadline)
        """What the host asks of the run; given to its driver."""
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
        return self.requests.deadline

    @property
    def stop(self) -> StopRequest | None:
        """See JobContext."""
        return self.requests.stop

    @property
    def checkpoint_due(self) -> bool:
        """See JobContext."""
        return self.requests.checkpoint_due

    def decline(self, reason: str) -> None:
        """See JobContext."""
        self.requests.decline(reason)

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on the loop whenever `stop` or `checkpoint_due` has changed, until what this returns is
        called. A listener that raises is logged.
        """
        return self.requests.on_change(listener)

    async def progress(self, value: Progress) -> None:
        """See JobContext."""
        await self._hold.progress(value)

    async def log(self, line: str) -> None:
        """See JobContext."""
        await self._hold.log(line)

    async def checkpoint(self, state: Any) -> StopRequest | None:
        """See JobContext."""
        if await self._hold.checkpoint(state):
            self.requests.saved()
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

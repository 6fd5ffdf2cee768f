"""The host's side of JobContext for processors that run on the event loop."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from workers.broker.backend import MAX_REASON
from workers.broker.hold import Hold
from workers.broker.result import message
from workers.contract import StopRequest, TransientError

T = TypeVar("T")


class HostContext:
    """One run of one job; implements workers.contract.JobContext.

    Args:
        hold: the job and its lock.
        deadline: monotonic seconds at which the run is ended.
    """

    def __init__(self, hold: Hold, deadline: float) -> None:
        self._hold = hold
        self._deadline = deadline

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

    async def progress(self, value: int | float | dict[str, Any]) -> None:
        """See JobContext."""
        await self._hold.progress(value)

    async def log(self, line: str) -> None:
        """See JobContext."""
        await self._hold.log(line)

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

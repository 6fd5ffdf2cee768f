"""The host's side of JobContext: what one run may ask, answered on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

from tasks.base import Task
from tasks.priority import Urgency
from workers.broker.backend import MAX_REASON
from workers.broker.hold import Hold, Parent
from workers.broker.result import message
from workers.contract import Effect, Ledger, Progress, StopRequest, TransientError, UnavailableError
from workers.contract.effect import EffectState
from workers.runtime.requests import Requests

T = TypeVar("T")

#: How long a refused call of a run that is over takes, from the second one on, seconds.
REFUSED_S = 0.1
_OVER = "the run is over"
#: What a run sees that goes on although it is over, so that its `while ctx.stop is None` ends.
_ENDED = StopRequest(kind="deadline", reason=_OVER, by=0.0)


class AddTask(Protocol):
    """Adds a job for a task, as a child where a parent is given; returns its id. See JobContext.add."""

    def __call__(
        self,
        task: Task,
        parent: Parent | None,
        /,
        *,
        priority: int | None,
        urgency: Urgency | None,
        delay_s: float,
    ) -> Awaitable[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a run may reach beyond its own job, where this fleet has it."""

    add: AddTask | None = None
    ledger: Ledger | None = None


NO_PORTS = Ports()


class HostContext:
    """One run of one job; implements workers.contract.JobContext. Used on the loop; an isolation whose processor runs
    elsewhere forwards `stop` and `checkpoint_due` there (`on_change`), and its calls and `decline` back.

    Once it is closed, each call raises CancelledError and does nothing: a processor that ignored its cancellation, or a
    task that it left, would else write into the next run of its job, which may have the same lock.

    Args:
        hold: the job and its lock.
        deadline: monotonic seconds at which the run is cancelled at the latest.
        restored: what an earlier run has saved.
        ports: what the run may reach beyond its own job.
    """

    __slots__ = ("_asking", "_hold", "_ports", "_refused", "closed", "requests", "restored")

    def __init__(self, hold: Hold, deadline: float, *, restored: Any = None, ports: Ports = NO_PORTS) -> None:
        self._hold = hold
        self._ports = ports
        self.requests = Requests(hold, deadline)
        """What the host asks of the run; given to its driver."""
        self.restored = restored
        self.closed = False
        """The run is over for its host, whatever still goes on of it."""
        self._refused = False
        self._asking: set[asyncio.Task[Any]] = set()
        """Tasks that wait in a call now."""

    def close(self) -> None:
        """The run is over: calls under way are cut short. What has reached the server by then is refused there once
        the job has ended (`checkpoints.py`, `notes.py`); a job that is being added may be added. Legal twice.
        """
        if not self.closed:
            self.closed = True
            for task in self._asking:
                task.cancel(_OVER)

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
        return self.requests.stop or (_ENDED if self.closed else None)

    @property
    def checkpoint_due(self) -> bool:
        """See JobContext."""
        return self.requests.checkpoint_due

    def decline(self, reason: str) -> None:
        """See JobContext. Nothing is asked any more once it is closed."""
        if not self.closed:
            self.requests.decline(reason)

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` on the loop whenever `stop` or `checkpoint_due` has changed, until what this returns is
        called. A listener that raises is logged.
        """
        return self.requests.on_change(listener)

    async def progress(self, value: Progress) -> None:
        """See JobContext."""
        await self.ask(self._hold.progress, value)

    async def log(self, line: str) -> None:
        """See JobContext."""
        await self.ask(self._hold.log, line)

    async def checkpoint(self, state: Any) -> StopRequest | None:
        """See JobContext."""
        if await self.ask(self._hold.checkpoint, state):
            self.requests.saved()
        return self.stop

    async def add(
        self,
        task: Task,
        *,
        child: bool = False,
        priority: int | None = None,
        urgency: Urgency | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """See JobContext."""
        if self._ports.add is None:
            raise UnavailableError("this fleet adds no jobs from processors")
        adding = partial(self._ports.add, priority=priority, urgency=urgency, delay_s=delay_s)
        return await self.ask(adding, task, self._hold.parent() if child else None)

    def once(self, effect: str) -> AbstractAsyncContextManager[Effect]:
        """See JobContext."""
        if self._ports.ledger is None:
            raise UnavailableError("ctx.once needs a ledger of effects, which needs a database: none is configured")
        job = self._hold.job
        return _OpenEffect(self, self._ports.ledger.once(job.queue, job.id, job.fence, effect))

    async def children_values(self) -> dict[str, Any]:
        """See JobContext."""
        return await self.ask(_read, self._hold.children_values)

    async def children_failures(self) -> dict[str, str]:
        """See JobContext."""
        return await self.ask(_read, self._hold.children_failures)

    async def ask(self, what: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Do it, unless and until the run is over.

        Raises:
            CancelledError: the run is over. The task counts as no more cancelled than before (`Task.cancelling`).
        """
        if self.closed:
            await self._refuse()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a JobContext answers tasks alone")
        self._asking.add(task)
        try:
            return await what(*arguments)
        finally:
            self._answered(task)

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if self.closed:  # meanwhile, and so this task was cancelled
            task.uncancel()

    async def _refuse(self) -> NoReturn:
        """At once the first time. One that asks again and again, whatever it is told, must not keep the loop busy."""
        again, self._refused = self._refused, True
        if again:
            await asyncio.sleep(REFUSED_S)
        raise asyncio.CancelledError(_OVER)


async def _read(children: Callable[[], Awaitable[T]]) -> T:
    try:
        return await children()
    except Exception as error:
        raise TransientError(f"what became of the children can't be read: {message(error, MAX_REASON)}") from error


class _OpenEffect:
    """One `async with ctx.once(…)`, and its effect. Left when the run is over, it is left as by a cancelled one."""

    __slots__ = ("_context", "_effect", "_manager")

    _effect: Effect

    def __init__(self, context: HostContext, manager: AbstractAsyncContextManager[Effect]) -> None:
        self._context = context
        self._manager = manager

    async def __aenter__(self) -> Effect:
        self._effect = await self._context.ask(self._manager.__aenter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._context.closed:
            over = asyncio.CancelledError(_OVER)
            await self._manager.__aexit__(asyncio.CancelledError, over, None)
            raise over
        return await self._context.ask(self._manager.__aexit__, kind, error, trace)

    @property
    def state(self) -> EffectState:
        """See Effect."""
        return self._effect.state

    @property
    def result(self) -> Any:
        """See Effect."""
        return self._effect.result

    async def settle(self, result: Any = None) -> None:
        """See Effect."""
        await self._context.ask(self._effect.settle, result)

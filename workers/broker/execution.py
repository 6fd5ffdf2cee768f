"""One call of the function that runs a job. Whatever it raises or is done to it ends that job only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON
from workers.broker.endings import Ending, Failed
from workers.broker.hold import Hold
from workers.broker.result import message

Execute: TypeAlias = Callable[[Activation, Hold], Awaitable[Ending]]


class Execution:
    """Waits on the execution's task and never awaits it, so that no cancellation of a job's reaches the slot.

    Args:
        execute: runs one job and says how it ends. May be cancelled.
        on_error: told what it raised: the error, where, the job's id.
        torn_down: whether the slot itself is being ended, so that the execution must not outlive it.
    """

    def __init__(
        self,
        execute: Execute,
        on_error: Callable[[BaseException, str, str], None],
        torn_down: Callable[[], bool],
    ) -> None:
        self._execute = execute
        self._on_error = on_error
        self._torn_down = torn_down

    async def run(self, job: Activation, hold: Hold, span: Span) -> Ending:
        """Execute the job under its span. Raises CancelledError once torn down, else nothing."""
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            task: asyncio.Future[Ending] = asyncio.ensure_future(self._execute(job, hold))
        finally:
            otel_context.detach(token)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                if self._torn_down():
                    task.add_done_callback(_see)
                    task.cancel()
                    raise
                _uncancel()  # by code of a job's that cancels every task it finds
        if task.cancelled():
            return Failed(reason="the execution was cancelled from outside", error="CancelledError")
        error = task.exception()
        if error is None:
            return task.result()
        self._on_error(error, "execute", job.id)
        name = type(error).__name__
        return Failed(reason=f"{name}: {message(error, MAX_REASON)}", error=name)


def _see(task: asyncio.Future[Ending]) -> None:
    """Look at what a cancelled execution raised, so that the loop does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()

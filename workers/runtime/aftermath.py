"""What follows when jobs have failed for good: a task that their module or `failure_note` makes, added to its queue.

It neither breaks nor delays a job's ending: that is in Redis before, what goes wrong here is told and no more, and
adding is the work of a task of its own, for which only so many may wait. At most once: what a process has not added
when it dies is not added.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span

from tasks.base import Task
from tasks.codec import WireError, decode
from tasks.limits import Limits
from workers.broker.activation import Activation
from workers.broker.endings import Failed
from workers.broker.numbers import is_number
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.contract import FailureClass, FinalFailure, OnFailed, TransientError
from workers.runtime.failure_note import follows_a_failure, note, note_job_id

log = logging.getLogger(__name__)

#: Tasks that may wait to be added; further ones are dropped.
MAX_WAITING = 1000
#: Seconds after the failure at which a task that could not be added is given up.
GIVE_UP_S = 300.0

_LIMITS = Limits()

OnFinalFailure: TypeAlias = Callable[[Activation, Failed, Span], None]
"""Told of a job that has failed for good, once Redis has it, with the span of its last run."""


class AddTask(Protocol):
    """See TaskAdder."""

    def __call__(self, task: Task, *, as_job: str) -> Awaitable[str]: ...


class DroppedError(Exception):
    """What follows a failure was not added: the message says why."""


@dataclass(frozen=True, slots=True)
class _Sequel:
    task: Task
    as_job: str
    failure: FinalFailure
    context: otel_context.Context
    until: float
    """Monotonic seconds."""


class Aftermath:
    """One for each process.

    Args:
        add: adds a job for a task. Raises TransientError where it may be tried again.
        on_error: told what could not be added: the queue of the failed job, the error, the job's id.
        describe: how a reason may be shown to a user: without secrets.
        reconnect: the waits between tries.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        add: AddTask,
        on_error: Callable[[str, BaseException, str], None],
        *,
        describe: Callable[[str], str] = str,
        reconnect: Reconnect = RECONNECT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._add = add
        self._on_error = on_error
        self._describe = describe
        self._reconnect = reconnect
        self._clock = clock
        self._waiting: deque[_Sequel] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def of(
        self, types: Mapping[str, type[Task]], hooks: Mapping[str, OnFailed[Any] | None], *, limits: Limits = _LIMITS
    ) -> OnFinalFailure:
        """What a queue's worker tells its final failures to.

        Args:
            types: the models of the tasks that it serves; jobs of other types have no sequel.
            hooks: those of their modules, by type. None: `failure_note.note`.
            limits: those that the queue's jobs are read by.
        """

        def told(job: Activation, failed: Failed, span: Span) -> None:
            try:
                self._follow(job, failed, span, partial(decode, types=types, limits=limits), hooks)
            except BaseException as error:  # a hook's SystemExit would end the slot
                self._on_error(job.queue, error, job.id)

        return told

    async def close(self, timeout_s: float) -> None:
        """Add what waits, for so long at most; the rest is dropped and told."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)
        while self._waiting:
            self._drop(self._waiting.popleft().failure, "the process ends")

    # -------------------------------------------------------------------- making

    def _follow(
        self,
        job: Activation,
        failed: Failed,
        span: Span,
        read: Callable[[Any], Task],
        hooks: Mapping[str, OnFailed[Any] | None],
    ) -> None:
        if follows_a_failure(job.id):
            return
        try:
            task = read(job.data)
        except WireError as error:
            log.debug("nothing follows the failure of job %s: %s", job.id, error)
            return
        failure = FinalFailure(
            queue=job.queue,
            job_id=job.id,
            reason=failed.reason,
            failure=cast("FailureClass", failed.failure),
            attempts=job.attempts_made + 1,
            at=self._clock(),
        )
        hook = hooks.get(task.type)
        sequel: object = hook(task, failure) if hook is not None else note(task, failure, self._describe)
        if sequel is None:
            log.debug("nothing follows the failure of job %s: it is for nobody", job.id)
        elif not isinstance(sequel, Task):
            raise TypeError(f"on_failed of a module returned a {type(sequel).__name__}, neither a task nor None")
        else:
            until = time.monotonic() + GIVE_UP_S
            context = trace.set_span_in_context(span, otel_context.Context())
            self._queue(_Sequel(sequel, note_job_id(failure), failure, context, until))

    def _queue(self, sequel: _Sequel) -> None:
        if self._closed:
            self._drop(sequel.failure, "the process ends")
        elif len(self._waiting) >= MAX_WAITING:
            self._drop(sequel.failure, f"{MAX_WAITING} others wait to be added")
        else:
            self._waiting.append(sequel)
            if self._task is None or self._task.done():
                self._start()

    def _drop(self, failure: FinalFailure, why: str) -> None:
        self._on_error(failure.queue, DroppedError(f"what follows its failure was not added: {why}"), failure.job_id)

    # -------------------------------------------------------------------- adding

    def _start(self) -> None:
        # Without the context of the slot that happened to be first.
        self._task = asyncio.get_running_loop().create_task(self._work(), context=contextvars.Context())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._waiting and not self._closed:  # cancelled by code of a job's that cancels every task it finds
            self._start()

    async def _work(self) -> None:
        while self._waiting:
            await self._deliver(self._waiting[0])
            self._waiting.popleft()

    async def _deliver(self, sequel: _Sequel) -> None:
        token = otel_context.attach(sequel.context)
        try:
            await self._persist(sequel)
        except Exception as error:
            self._on_error(sequel.failure.queue, error, sequel.failure.job_id)
        finally:
            otel_context.detach(token)

    async def _persist(self, sequel: _Sequel) -> None:
        """Add it, through an outage. Adding again after a lost reply adds nothing, since its id is the same.

        Raises:
            PermanentError: it can't be added.
            TransientError: it could not be for GIVE_UP_S.
        """
        failures = 0
        while True:
            try:
                await self._add(sequel.task, as_job=sequel.as_job)
                return
            except TransientError as error:
                failures += 1
                wait_s = self._reconnect.wait_s(failures)
                if is_number(error.retry_after_s):
                    wait_s = max(wait_s, error.retry_after_s)
                if time.monotonic() + wait_s > sequel.until:
                    raise
                await asyncio.sleep(wait_s)

"""The plug of a queue: what a folder under `workers/queues/` exports as MODULE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from tasks.base import Task
from workers.contract.context import JobContext
from workers.contract.errors import FailureClass
from workers.contract.failure import OnFailed
from workers.contract.outcomes import Outcome
from workers.contract.sync_context import SyncJobContext

T = TypeVar("T", bound=Task)
OptionsT = TypeVar("OptionsT", bound=BaseModel)
T_contra = TypeVar("T_contra", bound=Task, contravariant=True)


@dataclass(frozen=True)
class Verdict:
    """Whether a failure is worth another attempt. Defaults: yes, after the queue's backoff; `Verdict()` leaves it to
    the host, which knows some exceptions of Python's own."""

    retry: bool = True
    """No matter for a failure that is permanent, budget or user: none follows."""
    retry_after_s: float | None = None
    """Seconds before which a retry is pointless; replaces the queue's backoff when longer."""
    failure: FailureClass | None = None
    """What kind of failure it was. None: `transient` where it may be retried, else `permanent`."""


def retry_all(error: Exception) -> Verdict:
    """The default classification: it is left to the host, which retries all but invalid data."""
    return Verdict()


BackoffStrategy: TypeAlias = Callable[[int, str, Exception], float | Awaitable[float | None] | None]
"""(failures so far, the job's backoff type, the failure) → seconds before the next attempt; None: no further one."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the host gives a module when it opens it."""

    queue: str
    slots: int
    """How many jobs of this queue run at once in this process: the size for connection pools."""


class Isolation(StrEnum):
    """Where the processor runs; `task.isolation` in YAML overrides the module's choice."""

    ASYNC = "async"
    """On the event loop, beside all others of its process. For work that waits."""
    THREAD = "thread"
    """In a thread of its own. For `def` processors, which land here in any case; a thread can't be killed."""
    PROCESS = "process"
    """In a child process, one job at a time. For work that computes, leaks, hangs or crashes."""


class Processor(Protocol[T_contra]):
    """Do one job: return its JSON result or an Outcome, raise only for failure. It may run again.

    `async def __call__(self, task, ctx)`, or `def` with a SyncJobContext: that runs in a thread.
    """

    async def __call__(self, task: T_contra, ctx: JobContext) -> Any | Outcome: ...


class SyncProcessor(Protocol[T_contra]):
    """A Processor that is a plain `def`."""

    def __call__(self, task: T_contra, ctx: SyncJobContext) -> Any | Outcome: ...


@dataclass(frozen=True, kw_only=True)
class QueueModule(Generic[T, OptionsT]):
    """Code here, numbers in YAML."""

    task: type[T]
    """The task model; its `type` literal names the module."""

    options: type[OptionsT]
    """The pydantic model of the entry's `task.options`."""

    open: (
        Callable[[Services, OptionsT], AbstractAsyncContextManager[Processor[T]]]
        | Callable[[Services, OptionsT], AbstractAsyncContextManager[SyncProcessor[T]]]
    )
    """Entered once a process, in the child where the jobs run in one: whatever it opens has an owner, a beginning and
    an end."""

    isolation: Isolation = Isolation.ASYNC
    """Where the processor runs unless YAML says otherwise. Defaults to the event loop."""

    classify: Callable[[Exception], Verdict] = retry_all
    """Pure. Asked about exceptions that are not JobErrors."""

    backoff: BackoffStrategy | None = None
    """Asked, for two seconds at most, where a job's own backoff is of a type that BullMQ does not know (Node's
    `backoffStrategy`). Where it fails, or is absent, the queue's backoff applies. Defaults to none."""

    on_failed: OnFailed[T] | None = None
    """Pure. Where YAML says `on_failed: notify`: the task to add when a job has failed for good, once for each such
    failure, to the queue of its type; None from it: nothing. Defaults to a `notification-create` for the task's
    `userId`, in neutral words: the reason is shown for class `user` alone."""

"""The plug of a queue: what a folder under `workers/queues/` exports as MODULE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from tasks.base import Task
from workers.contract.context import JobContext
from workers.contract.outcomes import Outcome

T = TypeVar("T", bound=Task)
OptionsT = TypeVar("OptionsT", bound=BaseModel)
T_contra = TypeVar("T_contra", bound=Task, contravariant=True)


@dataclass(frozen=True)
class Verdict:
    """Whether a failure is worth another attempt. Defaults: yes, after the queue's backoff."""

    retry: bool = True
    retry_after_s: float | None = None
    """Seconds before which a retry is pointless; replaces the queue's backoff when longer."""


def retry_all(error: Exception) -> Verdict:
    """The default classification: every failure may be retried."""
    return Verdict()


BackoffStrategy: TypeAlias = Callable[[int, str, Exception], float | Awaitable[float | None] | None]
"""(failures so far, the job's backoff type, the failure) → seconds before the next attempt; None: no further one."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the host gives a module when it opens it."""

    queue: str
    slots: int
    """How many jobs of this queue run at once in this process: the size for connection pools."""


class Processor(Protocol[T_contra]):
    """Do one job: return its JSON result or an Outcome, raise only for failure. It may run again."""

    async def __call__(self, task: T_contra, ctx: JobContext) -> Any | Outcome: ...


@dataclass(frozen=True, kw_only=True)
class QueueModule(Generic[T, OptionsT]):
    """Code here, numbers in YAML."""

    task: type[T]
    """The task model; its `type` literal names the module."""

    options: type[OptionsT]
    """The pydantic model of the entry's `task.options`."""

    open: Callable[[Services, OptionsT], AbstractAsyncContextManager[Processor[T]]]
    """Entered once a process: whatever it opens has an owner, a beginning and an end."""

    classify: Callable[[Exception], Verdict] = retry_all
    """Pure. Asked about exceptions that are not JobErrors."""

    backoff: BackoffStrategy | None = None
    """Asked, for two seconds at most, where a job's own backoff is of a type that BullMQ does not know (Node's
    `backoffStrategy`). Where it fails, or is absent, the queue's backoff applies. Defaults to none."""

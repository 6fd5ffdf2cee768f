"""What happens to jobs and workers, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from workers.broker.memory import JobMemory

RungName: TypeAlias = Literal["warn", "checkpoint", "pause", "stop", "cancel", "kill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something happened to one job."""

    queue: str
    job_id: str
    job_name: str
    task_type: str
    """`data.type` if it is a known type, else "unknown": bounded, safe as a metric label."""
    attempt: int
    """1 for the first attempt."""
    trace_id: str = ""
    """32 hex digits, or empty without a trace."""
    memory: JobMemory | None = None
    """What the run needed, told with its end where it had a process of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobActive(JobEvent):
    """A slot took the job."""

    wait_s: float | None
    """Seconds since the job was due (its timestamp plus its delay); None after its first start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress(JobEvent):
    """The run stored its progress."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCompleted(JobEvent):
    """Redis has the result."""

    duration_s: float
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(JobEvent):
    """Redis has the failure and no attempt follows."""

    duration_s: float
    reason: str
    error: str
    failure: str = "permanent"
    """The kind of failure, see contract.FailureClass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetrying(JobEvent):
    """The attempt failed; the next follows after `delay_s` seconds."""

    duration_s: float
    reason: str
    error: str
    delay_s: float
    failure: str = "transient"
    """The kind of failure, see contract.FailureClass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDelayed(JobEvent):
    """The job asked to run later; its attempt is kept."""

    duration_s: float
    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandedBack(JobEvent):
    """The job went back to the front of `wait`, nothing spent."""

    duration_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLost(JobEvent):
    """The job's lock is no longer ours; nothing was written."""

    duration_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRung(JobEvent):
    """The run has reached a rung of its ladder."""

    rung: RungName
    after_s: float
    """Seconds that the run has taken so far."""
    attempt_of_rung: int
    """Which of the rung's tries this is, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStalled:
    """A worker somewhere let this job's lock expire; BullMQ put it back."""

    queue: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDrained:
    """A worker found nothing more to start: none waits, or the queue is paused or at its own concurrency. Once, until
    it found something again.
    """

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A queue's worker changed its state in this process."""

    queue: str
    state: Literal["starting", "running", "draining", "closed"]
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerError:
    """Something went wrong that belongs to no job, or could not be written for one."""

    queue: str
    where: str
    """A short, bounded name: fetch, wait, finish, renew, stalled-check, scheduler, slot, …"""
    error: BaseException
    job_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePaused:
    """The queue was found paused for everyone (BullMQ's global pause), or no longer so."""

    queue: str
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked:
    """Something kept the event loop from turning: while it did, nothing else in the process went on."""

    queue: str
    """Of the job that was running on it, or "unknown"."""
    task_type: str
    """As in JobEvent."""
    job_id: str
    blocked_s: float
    stack: str
    """The frames of the loop's thread while it was blocked, the innermost last."""
    trace_id: str = ""
    over: bool = True
    """False: it is still blocked; a second one tells when that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionChanged:
    """The connection to Redis was lost or came back."""

    queue: str
    up: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReady:
    """A child process, in which jobs run apart, has opened its module."""

    queue: str
    took_s: float
    """Seconds from its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStartFailed:
    """A child process could not be started, or could not open its module."""

    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDied:
    """A child process has ended unasked."""

    queue: str
    reason: str
    """A signal's name; `exit`; `out_of_memory`, by its control group; `killed`, by the last rung of a ladder;
    `protocol`, since it had sent what is no frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRecycled:
    """A child process is replaced on purpose."""

    queue: str
    reason: str
    """`jobs`, `memory`, or `state`: a job has left it in one that the next would suffer from."""


ChildEvent: TypeAlias = ChildReady | ChildStartFailed | ChildDied | ChildRecycled

Event: TypeAlias = (
    JobEvent  # and its subclasses, one for the start, one for progress and one for each ending
    | JobStalled
    | QueueDrained
    | QueuePaused
    | LoopBlocked
    | WorkerState
    | WorkerError
    | ConnectionChanged
    | ChildEvent
)

"""Executes one job: decode → run → decide. Knows the plans, not Redis."""

from __future__ import annotations

import inspect
import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.base import Task
from tasks.codec import DecodeError, UnknownTaskType, decode
from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, MAX_STACK
from workers.broker.endings import Delayed, Ending, Failed, HandedBack, Lost
from workers.broker.hold import Hold
from workers.broker.numbers import is_number
from workers.broker.result import message
from workers.contract import BackoffStrategy, JobContext, Verdict
from workers.runtime import retry
from workers.runtime.context import HostContext
from workers.runtime.deadline import CLEANUP_S, Interrupted, Raised, Returned, RunEnd, TimedOut, drive
from workers.runtime.outcome import ending_of

log = logging.getLogger(__name__)

#: How long a module's own back-off may take to answer, seconds; within LOCK_SLACK_S.
STRATEGY_S = 2.0

#: How long after its time-out a run's lock is still renewed, seconds: for its clean-up and for a loop that is late.
LOCK_SLACK_S = CLEANUP_S + 5.0
#: Frames of a stack trace that are stored with the job.
STACK_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one task type is run on one queue; computed at start."""

    process: Callable[[Any, JobContext], Awaitable[Any]]
    classify: Callable[[Exception], Verdict]
    timeout_s: float
    """Seconds for one run of the processor; then it is cancelled and the attempt has failed."""
    retry: retry.RetryPolicy
    backoff: BackoffStrategy | None = None
    """For jobs whose own backoff is of a type that BullMQ does not know."""


@dataclass(frozen=True)
class _Failure:
    """A run that failed, before it is known what follows."""

    reason: str
    error: str
    cause: Exception
    stack: str = ""
    verdict: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a queue accepts."""

    max_data_bytes: int
    """The largest job data, in bytes of its JSON as stored; a larger job fails at once."""
    unknown_delay_s: float
    """Seconds for which a job of an unknown type is put off each time."""
    unknown_give_up_s: float
    """Age of a job in seconds, counted from when it was due, at which an unknown type fails instead of being put
    off."""


class Executor:
    """The executions of one queue.

    Args:
        plans: by task type.
        draw: a random number in [0, 1) for jitter.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        limits: Limits,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plans = plans
        self._limits = limits
        self._draw = draw
        self._clock = clock

    async def execute(self, job: Activation, hold: Hold) -> Ending:
        """Run the job once. Returns how it ends; raises only when it is itself cancelled."""
        read = self._read(job)
        if not isinstance(read, Task):
            return read
        plan = self._plans[read.type]
        deadline = time.monotonic() + plan.timeout_s
        hold.bound(deadline + LOCK_SLACK_S)
        context = HostContext(hold, deadline)
        end = await drive(lambda: plan.process(read, context), hold, plan.timeout_s)
        decided = self._decide(end, job, plan, asked=hold.interrupt is not None)
        return await self._failed(decided, job, plan, hold) if isinstance(decided, _Failure) else decided

    # ------------------------------------------------------------------ decode

    def _read(self, job: Activation) -> Task | Ending:
        if job.defects:
            return Failed(reason="; ".join(job.defects), error="DecodeError")
        if job.data_bytes > self._limits.max_data_bytes:
            found, limit = job.data_bytes, self._limits.max_data_bytes
            reason = f"data: {found:,} bytes, more than the {limit:,} this queue accepts (max_data)"
            return Failed(reason=reason, error="DecodeError")
        try:
            task = decode(job.data)
        except UnknownTaskType as error:
            return self._unknown(job, str(error))
        except DecodeError as error:
            return Failed(reason=str(error), error="DecodeError")
        if task.type not in self._plans:
            return self._unknown(job, f"data.type: '{task.type}' is not served on queue {job.queue}")
        return task

    def _unknown(self, job: Activation, reason: str) -> Ending:
        """A type that this worker can't read may be a newer worker's: put off for a while, then failed."""
        delay_s = self._limits.unknown_delay_s
        age_s = self._clock() - job.due / 1000
        if age_s < 0:  # a clock that is wrong, or a lie: else the job would be put off until then
            age_s = (job.fence - 1) * delay_s
        if age_s >= self._limits.unknown_give_up_s:
            return Failed(reason=reason, error="UnknownTaskType")
        return Delayed(delay_ms=retry.wait_ms(delay_s), reason=reason)

    # ------------------------------------------------------------------ decide

    def _decide(self, end: RunEnd, job: Activation, plan: Plan, *, asked: bool) -> Ending | _Failure:
        match end:
            case Returned(value=value):
                ending = ending_of(value, start=job.fence, asked=asked)
                if not isinstance(ending, str):
                    return ending
                return _Failure(f"the processor returned {ending}", "Outcome", TypeError(ending))
            case Interrupted(by=interrupt):
                if interrupt.kind == "lock_lost":
                    return Lost(reason=interrupt.reason)
                return HandedBack(reason=interrupt.reason)
            case TimedOut(after_s=after, abandoned=abandoned):
                still = "; it ignored its cancellation and may still be running" if abandoned else ""
                reason = f"timed out after {after:g} s{still}"
                return _Failure(reason, "Timeout", TimeoutError(reason))
            case Raised(error=error):
                verdict = retry.verdict_of(error, _classified(plan, error))
                reason = message(error, MAX_REASON)
                return _Failure(reason, type(error).__name__, error, _stack(error), verdict)

    async def _failed(self, failure: _Failure, job: Activation, plan: Plan, hold: Hold) -> Ending:
        """Another attempt, or the end."""
        verdict, custom_s = failure.verdict, None
        kind = retry.custom_type(job.opts, plan.retry)
        goes_on = retry.follows(verdict, job.attempts_made, job.opts, plan.retry)
        if goes_on and kind is not None and plan.backoff is not None:
            verdict, custom_s = await _asked(plan.backoff, kind, failure, job, hold)
        return retry.after_failure(
            reason=failure.reason,
            error=failure.error,
            stack=failure.stack,
            verdict=verdict,
            attempts_made=job.attempts_made,
            opts=job.opts,
            policy=plan.retry,
            draw=self._draw(),
            custom_s=custom_s,
        )


async def _asked(
    strategy: BackoffStrategy, kind: str, failure: _Failure, job: Activation, hold: Hold
) -> tuple[Verdict, float | None]:
    """The module's own back-off: whether another attempt follows, and after how many seconds; None: the queue's."""

    async def ask() -> object:
        answer = strategy(job.attempts_made + 1, kind, failure.cause)
        return await answer if inspect.isawaitable(answer) else answer

    match await drive(ask, hold, STRATEGY_S):
        case Returned(value=None):
            return Verdict(retry=False), None
        case Returned(value=seconds) if is_number(seconds):
            return failure.verdict, max(0.0, seconds)
        case end:
            log.error("a module's backoff gave no number of seconds; the queue's applies (%s)", end)
            return failure.verdict, None


def _classified(plan: Plan, error: Exception) -> Verdict:
    try:
        verdict: object = plan.classify(error)
    except Exception:
        log.exception("a module's classify failed; the failure counts as one that may be retried")
        return Verdict()
    if isinstance(verdict, Verdict):
        return verdict
    log.error("a module's classify returned %s, no Verdict; the failure may be retried", type(verdict).__name__)
    return Verdict()


def _stack(error: Exception) -> str:
    """The last frames; of a text that is too long the end, because that names the error."""
    try:
        text = "".join(traceback.format_exception(error, limit=-STACK_FRAMES))
    except Exception:  # an exception with attributes of its own making
        return ""
    return text if len(text) <= MAX_STACK else "…" + text[1 - MAX_STACK :]

"""Executes one job: decode → run → decide. Knows the plans, not Redis."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.base import Task
from tasks.codec import DecodeError, UnknownTaskType, decode
from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, MAX_STACK
from workers.broker.endings import Completed, Delayed, Ending, Failed, HandedBack, Lost
from workers.broker.hold import Hold
from workers.broker.numbers import is_number
from workers.broker.result import clean, message
from workers.contract import Cancel, HandBack, JobContext, Snooze, Verdict
from workers.runtime import retry
from workers.runtime.context import HostContext
from workers.runtime.deadline import Interrupted, Raised, Returned, RunEnd, TimedOut, drive

log = logging.getLogger(__name__)

#: Frames of a stack trace that are stored with the job.
STACK_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one task type is run on one queue; computed at start."""

    process: Callable[[Any, JobContext], Awaitable[Any]]
    classify: Callable[[Exception], Verdict]
    timeout_s: float
    retry: retry.RetryPolicy


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a queue accepts."""

    max_data_bytes: int
    unknown_delay_s: float
    unknown_give_up_s: float
    """Age of a job, counted from when it was due, at which an unknown type fails instead of being put off."""


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
        context = HostContext(hold, time.monotonic() + plan.timeout_s)
        end = await drive(lambda: plan.process(read, context), hold, plan.timeout_s)
        return self._decide(end, job, plan, asked=hold.interrupt is not None)

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

    def _decide(self, end: RunEnd, job: Activation, plan: Plan, *, asked: bool) -> Ending:
        match end:
            case Returned(value=value):
                return self._outcome(value, job, plan, asked)
            case Interrupted(by=interrupt):
                if interrupt.kind == "lock_lost":
                    return Lost(reason=interrupt.reason)
                return HandedBack(reason=interrupt.reason)
            case TimedOut(after_s=after, abandoned=abandoned):
                still = "; it ignored its cancellation and may still be running" if abandoned else ""
                return self._failed(f"timed out after {after:g} s{still}", "Timeout", "", Verdict(), job, plan)
            case Raised(error=error):
                verdict = retry.verdict_of(error, _classified(plan, error))
                reason = message(error, MAX_REASON)
                return self._failed(reason, type(error).__name__, _stack(error), verdict, job, plan)

    def _outcome(self, value: Any, job: Activation, plan: Plan, asked: bool) -> Ending:
        match value:
            case Snooze(delay_s=delay, reason=reason) if is_number(delay):
                return Delayed(delay_ms=retry.wait_ms(delay), reason=clean(str(reason), MAX_REASON))
            case Snooze(delay_s=delay):
                said = f"Snooze(delay_s={str(delay)[:40]}), which is no number of seconds"
            case Cancel(reason=reason):
                return Failed(reason=clean(str(reason), MAX_REASON), error="Cancel")
            case HandBack(reason=reason) if asked:
                return HandedBack(reason=clean(str(reason), MAX_REASON))
            case HandBack():  # at the front of `wait` it would be back at once, for ever
                said = "HandBack although nobody had asked for the slot; Snooze puts a job off"
            case _:
                return Completed(result=value)
        return self._failed(f"the processor returned {said}", "Outcome", "", Verdict(), job, plan)

    def _failed(self, reason: str, error: str, stack: str, verdict: Verdict, job: Activation, plan: Plan) -> Ending:
        return retry.after_failure(
            reason=reason,
            error=error,
            stack=stack,
            verdict=verdict,
            attempts_made=job.attempts_made,
            opts=job.opts,
            policy=plan.retry,
            draw=self._draw(),
        )


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

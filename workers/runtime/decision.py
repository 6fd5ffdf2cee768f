"""From the end of a run to the ending of its job: what was returned, raised, timed out or interrupted."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, MAX_STACK
from workers.broker.endings import CANCELLED, Completed, Ending, Failed, HandedBack, Lost
from workers.broker.hold import Hold
from workers.broker.numbers import is_number
from workers.broker.result import clean, message
from workers.contract import BackoffStrategy, Verdict
from workers.runtime import retry
from workers.runtime.deadline import drive
from workers.runtime.error_stack import error_stack, shortened
from workers.runtime.isolation.call import RemoteError
from workers.runtime.ladder import Climb, Rung
from workers.runtime.opinion import classified
from workers.runtime.outcome import OUTCOMES, ending_of
from workers.runtime.run_end import Interrupted, Raised, Returned, RunEnd, TimedOut, seconds

log = logging.getLogger(__name__)

#: How long a module's own back-off may take to answer, seconds; within the executor's LOCK_SLACK_S.
STRATEGY_S = 2.0
#: Of a progress object, what a failure tells, and characters of each.
PROGRESS_KEYS, MAX_PROGRESS = ("progress", "status", "currentStep"), 60
#: Characters of an exception's name.
MAX_NAME = 100


@dataclass(frozen=True)
class Failure:
    """A run that failed, before it is known what follows."""

    reason: str
    error: str
    cause: Exception
    verdict: Verdict
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """How the runs of one task type end.

    Args:
        classify: the module's opinion of an exception.
        backoff: the module's own back-off, if it has one.
        policy: the queue's settings.
        draw: a random number in [0, 1) for jitter.
    """

    classify: Callable[[Exception], Verdict]
    backoff: BackoffStrategy | None
    policy: retry.RetryPolicy
    draw: Callable[[], float]

    async def ending(self, end: RunEnd, job: Activation, hold: Hold) -> Ending:
        """Decide. Waits only for a module's own back-off, STRATEGY_S at most."""
        if type(end) is Returned and not isinstance(end.value, OUTCOMES):  # the usual way, and the cheapest
            return Completed(result=end.value)
        if hold.interrupt is not None and hold.cancelled:  # whatever it says or does now: it is not to run again
            return Failed(reason=hold.interrupt.reason, error=CANCELLED)
        decided = self._decide(end, job, asked=hold.interrupt is not None, last_progress=hold.last_progress)
        return await self._failed(decided, job, hold) if isinstance(decided, Failure) else decided

    def _decide(self, end: RunEnd, job: Activation, *, asked: bool, last_progress: Any) -> Ending | Failure:
        match end:
            case Returned(value=value):
                ending = ending_of(value, start=job.fence, asked=asked)
                if not isinstance(ending, str):
                    return ending
                wrong = TypeError(ending)
                return Failure(f"the processor returned {ending}", "Outcome", wrong, retry.verdict_of(wrong))
            case Interrupted(by=interrupt):
                if interrupt.kind == "lock_lost":
                    return Lost(reason=interrupt.reason)
                return HandedBack(reason=interrupt.reason)
            case TimedOut():
                reason = _timed_out(end, last_progress)
                return Failure(reason, "Timeout", TimeoutError(reason), Verdict(failure="timed-out"))
            case Raised(error=error):
                name, stack = named(error), stack_of(error)
                return Failure(message(error, MAX_REASON), name, error, classified(error, self.classify), stack)

    async def _failed(self, failure: Failure, job: Activation, hold: Hold) -> Ending:
        """Another attempt, or the end."""
        verdict, custom_s = failure.verdict, None
        kind = retry.custom_type(job.opts, self.policy)
        goes_on = retry.follows(verdict, job.attempts_made, job.opts, self.policy)
        if goes_on and kind is not None and self.backoff is not None:
            verdict, custom_s = await _asked(self.backoff, kind, failure, job, hold)
        return retry.after_failure(
            reason=failure.reason,
            error=failure.error,
            stack=failure.stack,
            verdict=verdict,
            attempts_made=job.attempts_made,
            opts=job.opts,
            policy=self.policy,
            draw=self.draw(),
            custom_s=custom_s,
        )


async def _asked(
    strategy: BackoffStrategy, kind: str, failure: Failure, job: Activation, hold: Hold
) -> tuple[Verdict, float | None]:
    """The module's own back-off: whether another attempt follows, and after how many seconds; None: the queue's."""

    async def ask() -> object:
        answer = strategy(job.attempts_made + 1, kind, failure.cause)
        return await answer if inspect.isawaitable(answer) else answer

    match await drive(ask, hold, Climb((Rung(do="cancel", at_s=STRATEGY_S),))):
        case Returned(value=None):
            return replace(failure.verdict, retry=False), None
        case Returned(value=seconds) if is_number(seconds):
            return failure.verdict, max(0.0, seconds)
        case end:
            log.error("a module's backoff gave no number of seconds; the queue's applies (%s)", end)
            return failure.verdict, None


def _timed_out(end: TimedOut, last_progress: Any) -> str:
    """In words: after how long, at which rung, and how far it had come."""
    far = "" if last_progress is None else f" (last progress: {_progress(last_progress)})"
    still = "; it ignored its cancellation and may still be running" if end.abandoned else ""
    return f"timed out after {seconds(end.after_s)} at rung {end.rung}{far}{still}"


def _progress(value: Any) -> str:
    """What a run said of its progress, cut down to what the words of the contract are: `progress`, `status` and
    `currentStep`. The rest may be anything.
    """
    if isinstance(value, dict):
        said = {key: value[key] for key in PROGRESS_KEYS if isinstance(value.get(key), str | int | float)}
        return ", ".join(f"{key} {_scalar(each)}" for key, each in said.items()) or "an object"
    return _scalar(value)


def _scalar(value: str | int | float) -> str:
    text = json.dumps(value)  # in one line, and free of what Redis does not hold
    return text if len(text) <= MAX_PROGRESS else text[: MAX_PROGRESS - 1] + "…"


def named(error: Exception) -> str:
    """The name of an exception's class, of another process's too."""
    return clean(error.name if isinstance(error, RemoteError) else type(error).__name__, MAX_NAME)


def stack_of(error: Exception) -> str:
    """The last frames of an exception, of another process's too."""
    return shortened(error.stack if isinstance(error, RemoteError) else error_stack(error), MAX_STACK)

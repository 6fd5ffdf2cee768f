"""From the end of a run to the ending of its job: what was returned, raised, timed out or interrupted."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.broker.activation import Activation
from workers.broker.backend import MAX_REASON, MAX_STACK
from workers.broker.endings import Ending, HandedBack, Lost
from workers.broker.hold import Hold
from workers.broker.numbers import is_number
from workers.broker.result import message
from workers.contract import BackoffStrategy, Verdict
from workers.runtime import retry
from workers.runtime.deadline import Interrupted, Raised, Returned, RunEnd, TimedOut, drive
from workers.runtime.outcome import ending_of

log = logging.getLogger(__name__)

#: How long a module's own back-off may take to answer, seconds; within the executor's LOCK_SLACK_S.
STRATEGY_S = 2.0
#: Frames of a stack trace that are stored with the job.
STACK_FRAMES = 30


@dataclass(frozen=True)
class Failure:
    """A run that failed, before it is known what follows."""

    reason: str
    error: str
    cause: Exception
    stack: str = ""
    verdict: Verdict = field(default_factory=Verdict)


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
        decided = self._decide(end, job, asked=hold.interrupt is not None)
        return await self._failed(decided, job, hold) if isinstance(decided, Failure) else decided

    def _decide(self, end: RunEnd, job: Activation, *, asked: bool) -> Ending | Failure:
        match end:
            case Returned(value=value):
                ending = ending_of(value, start=job.fence, asked=asked)
                if not isinstance(ending, str):
                    return ending
                return Failure(f"the processor returned {ending}", "Outcome", TypeError(ending))
            case Interrupted(by=interrupt):
                if interrupt.kind == "lock_lost":
                    return Lost(reason=interrupt.reason)
                return HandedBack(reason=interrupt.reason)
            case TimedOut(after_s=after, abandoned=abandoned):
                still = "; it ignored its cancellation and may still be running" if abandoned else ""
                reason = f"timed out after {after:g} s{still}"
                return Failure(reason, "Timeout", TimeoutError(reason))
            case Raised(error=error):
                verdict = retry.verdict_of(error, _classified(self.classify, error))
                reason = message(error, MAX_REASON)
                return Failure(reason, type(error).__name__, error, _stack(error), verdict)

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

    match await drive(ask, hold, STRATEGY_S):
        case Returned(value=None):
            return Verdict(retry=False), None
        case Returned(value=seconds) if is_number(seconds):
            return failure.verdict, max(0.0, seconds)
        case end:
            log.error("a module's backoff gave no number of seconds; the queue's applies (%s)", end)
            return failure.verdict, None


def _classified(classify: Callable[[Exception], Verdict], error: Exception) -> Verdict:
    try:
        verdict: object = classify(error)
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

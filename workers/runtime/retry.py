"""From a failure to an ending: what kind of failure, does another attempt follow, and when? Pure.

The kind: a JobError says it; of any other exception the module does; where it says nothing, `_untold`. A kind in FINAL
is the end; with any other, attempts and waits decide.
Attempts and waits: the job's own options beat the queue's settings, which fill what is missing; `over_job` turns that
round per key, and caps bound what a job may ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from tasks.codec import WireError
from workers.broker.endings import Failed, Retry
from workers.broker.numbers import is_number, whole
from workers.contract import FailureClass, JobError, TransientError, Verdict, retry_all
from workers.runtime.containment import EscapedError
from workers.runtime.isolation.call import RemoteError

#: The kinds of failure after which no attempt follows, whatever is left.
FINAL: frozenset[FailureClass] = frozenset({"permanent", "budget", "user"})
_KINDS: frozenset[FailureClass] = frozenset(get_args(FailureClass))

#: The longest wait between attempts, ms: a year. BullMQ's delayed scores lose their order far above it.
MAX_DELAY_MS = 365 * 86_400_000
#: Exceptions of one ExceptionGroup that are looked at.
MAX_EXCEPTIONS = 100

#: BullMQ's own kinds of back-off, and by what each wait is multiplied for the next.
_FACTORS = {"fixed": 1.0, "exponential": 2.0}


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """The queue's settings."""

    attempts: int = 1
    """Attempts in all, the first included."""
    delay_s: float = 0.0
    factor: float = 1.0
    """The wait before attempt n + 1 is delay_s · factor^(n-1)."""
    max_s: float | None = None
    jitter: float = 0.0
    """Share of the wait that is drawn at random, 0..1."""
    over_job: frozenset[str] = frozenset()
    """Of "attempts" and "backoff": what wins over the job's own options."""
    max_attempts: int | None = None
    """The most attempts that the job's own options may ask for. None: any number."""
    max_wait_s: float = MAX_DELAY_MS / 1000
    """The longest wait that they may ask for."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """What applies to one job."""

    delay_ms: float
    factor: float = 1.0
    max_ms: float = MAX_DELAY_MS
    jitter: float = 0.0

    def wait_ms(self, failures: int, draw: float) -> int:
        """The wait after so many failures; `draw` is a random number in [0, 1).

        BullMQ's rule (backoffs.ts): fixed: delay; exponential: 2^(failures-1) · delay; with jitter that share of it
        is drawn.
        """
        longest = min(self.max_ms, MAX_DELAY_MS)
        try:
            grown = self.delay_ms * self.factor ** max(failures - 1, 0) if self.delay_ms else 0.0
        except OverflowError:
            grown = longest
        top = min(grown, longest)
        wait = top * (1 - self.jitter) + top * self.jitter * draw
        return int(min(math.floor(wait + 0.5), longest))  # rounded as JavaScript does


def wait_ms(seconds: float) -> int:
    """Seconds as a delay that BullMQ takes: whole milliseconds, from none to MAX_DELAY_MS."""
    return whole(min(max(seconds, 0), MAX_DELAY_MS / 1000) * 1000)


def attempts_allowed(opts: Mapping[str, Any], policy: RetryPolicy) -> int:
    """How many attempts the job has in all."""
    own = opts.get("attempts")
    if "attempts" in policy.over_job or not is_number(own) or own <= 0:  # 0 is what Node writes for none
        return policy.attempts
    return whole(own) if policy.max_attempts is None else min(whole(own), policy.max_attempts)


def backoff(opts: Mapping[str, Any], policy: RetryPolicy) -> Backoff:
    """The job's back-off within its cap; one of a kind that we don't know or without its delay is replaced by the
    queue's."""
    ours = Backoff(
        delay_ms=policy.delay_s * 1000,
        factor=policy.factor,
        max_ms=policy.max_s * 1000 if policy.max_s is not None else MAX_DELAY_MS,
        jitter=policy.jitter,
    )
    if "backoff" in policy.over_job:
        return ours
    own = _jobs_own(opts.get("backoff"))
    return ours if own is None else replace(own, max_ms=min(own.max_ms, policy.max_wait_s * 1000))


def _jobs_own(value: Any) -> Backoff | None:
    if is_number(value):
        return Backoff(delay_ms=float(value)) if value >= 0 else None
    if not isinstance(value, Mapping):
        return None
    settings = value.get("settings")  # the oldest producers nest the delay
    delay = value.get("delay", settings.get("delay") if isinstance(settings, Mapping) else None)
    kind = value.get("type")
    factor = _FACTORS.get(kind) if isinstance(kind, str) else None
    if factor is None or not is_number(delay) or delay < 0:
        return None
    jitter = value.get("jitter")
    share = float(jitter) if is_number(jitter) and 0 <= jitter <= 1 else 0.0
    return Backoff(delay_ms=float(delay), factor=factor, jitter=share)


def verdict_of(error: Exception, classify: Callable[[Exception], Verdict] = retry_all) -> Verdict:
    """What an exception means for its job; `failure` is set and `retry` agrees with it. See the module's docstring.

    An ExceptionGroup, as a TaskGroup raises it, of which the module says nothing means what the gravest of its
    exceptions does: one after which no attempt follows, else one that is more than transient.

    Args:
        classify: the module's opinion. Must not raise; is not asked about JobErrors.
    """
    told = _told(error, classify)
    if told is None and isinstance(error, ExceptionGroup):
        return _gravest([settled(_told(each, classify) or _untold(each)) for each in _flat(error)])
    return settled(told or _untold(error))


def settled(verdict: Verdict) -> Verdict:
    """The verdict with its kind, and no retry after a final one. A kind that is none counts as not said."""
    retry, failure = bool(verdict.retry), verdict.failure
    if not isinstance(failure, str) or failure not in _KINDS:
        failure = "transient" if retry else "permanent"
    return replace(verdict, retry=retry and failure not in FINAL, failure=failure)


def _told(error: Exception, classify: Callable[[Exception], Verdict]) -> Verdict | None:
    """What the error or its module says; None: nothing."""
    match error:
        case RemoteError():
            return error.verdict
        case TransientError():
            after_s = getattr(error, "retry_after_s", None)  # a subclass may not have called __init__
            return Verdict(retry_after_s=after_s, failure=error.failure)
        case JobError():
            return Verdict(failure=error.failure)
    said = classify(error)
    return None if said == Verdict() else said


def _untold(error: Exception) -> Verdict:
    """What we take an exception for. Most may pass: what the system or the network did (OSError, with ConnectionError
    and TimeoutError), and errors of programming, as the next release may be a better one.
    """
    match error:
        case WireError():
            return Verdict(retry=False, failure="permanent")
        case EscapedError() | MemoryError():
            return Verdict(failure="crashed")
    return Verdict(failure="transient")


def _flat(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    todo: list[Exception] = [group]
    while todo and len(found) < MAX_EXCEPTIONS:
        each = todo.pop()
        if isinstance(each, ExceptionGroup):
            todo.extend(reversed(each.exceptions[:MAX_EXCEPTIONS]))
        else:
            found.append(each)
    return found


def _gravest(verdicts: Sequence[Verdict]) -> Verdict:
    """The first of the gravest, with the longest wait that any asks for."""
    gravest = max(verdicts, key=lambda each: (not each.retry, each.failure != "transient"), default=settled(Verdict()))
    waits = [each.retry_after_s for each in verdicts if is_number(each.retry_after_s)]
    return replace(gravest, retry_after_s=max(waits, default=None))


def follows(verdict: Verdict, attempts_made: int, opts: Mapping[str, Any], policy: RetryPolicy) -> bool:
    """Whether another attempt follows; `attempts_made` does not count the one that has just failed."""
    return settled(verdict).retry and attempts_made + 1 < attempts_allowed(opts, policy)


def custom_type(opts: Mapping[str, Any], policy: RetryPolicy) -> str | None:
    """The type of the job's own back-off, if BullMQ does not know it and the module may say what it means."""
    value = opts.get("backoff")
    kind = value.get("type") if isinstance(value, Mapping) else None
    if "backoff" in policy.over_job or not isinstance(kind, str) or kind in _FACTORS:
        return None
    return kind


def after_failure(
    *,
    reason: str,
    error: str,
    stack: str,
    verdict: Verdict,
    attempts_made: int,
    opts: Mapping[str, Any],
    policy: RetryPolicy,
    draw: float,
    custom_s: float | None = None,
) -> Failed | Retry:
    """Decide. `attempts_made` does not count the attempt that has just failed; `draw` is random in [0, 1); `custom_s`
    is what the module says where the job's back-off is its own matter. A failure that asks for a longer wait gets it.
    """
    failure = settled(verdict).failure or "transient"
    if not follows(verdict, attempts_made, opts, policy):
        return Failed(reason=reason, error=error, stack=stack, failure=failure)
    if custom_s is None:
        wait = backoff(opts, policy).wait_ms(attempts_made + 1, draw)
    else:
        wait = wait_ms(min(custom_s, policy.max_wait_s))
    if is_number(verdict.retry_after_s):
        wait = max(wait, wait_ms(verdict.retry_after_s))
    return Retry(reason=reason, error=error, stack=stack, delay_ms=wait, failure=failure)

"""From a failure to an ending: does another attempt follow, and when? Pure.

The job's own options beat the queue's settings, which fill what is missing; `over_job` turns that round per key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.broker.endings import Failed, Retry
from workers.broker.numbers import is_number, whole
from workers.contract import JobError, PermanentError, TransientError, Verdict

#: The longest wait between attempts, ms: a year. BullMQ's delayed scores lose their order far above it.
MAX_DELAY_MS = 365 * 86_400_000

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
    return whole(own)


def backoff(opts: Mapping[str, Any], policy: RetryPolicy) -> Backoff:
    """The job's back-off; a kind that we don't know or that lacks its delay is replaced by the queue's."""
    ours = Backoff(
        delay_ms=policy.delay_s * 1000,
        factor=policy.factor,
        max_ms=policy.max_s * 1000 if policy.max_s is not None else MAX_DELAY_MS,
        jitter=policy.jitter,
    )
    if "backoff" in policy.over_job:
        return ours
    return _jobs_own(opts.get("backoff")) or ours


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


def verdict_of(error: BaseException, classified: Verdict) -> Verdict:
    """A JobError speaks for itself; for any other failure the module's classification holds."""
    match error:
        case PermanentError():
            return Verdict(retry=False)
        case TransientError():
            return Verdict(retry=True, retry_after_s=error.retry_after_s)
        case JobError():
            return Verdict(retry=True)
    return classified


def follows(verdict: Verdict, attempts_made: int, opts: Mapping[str, Any], policy: RetryPolicy) -> bool:
    """Whether another attempt follows; `attempts_made` does not count the one that has just failed."""
    return verdict.retry and attempts_made + 1 < attempts_allowed(opts, policy)


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
    is what the module says where the job's back-off is its own matter.
    """
    if not follows(verdict, attempts_made, opts, policy):
        return Failed(reason=reason, error=error, stack=stack)
    wait = backoff(opts, policy).wait_ms(attempts_made + 1, draw) if custom_s is None else wait_ms(custom_s)
    if is_number(verdict.retry_after_s):
        wait = max(wait, wait_ms(verdict.retry_after_s))
    return Retry(reason=reason, error=error, stack=stack, delay_ms=wait)

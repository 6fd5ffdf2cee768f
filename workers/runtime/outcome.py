"""From what a processor returned to an ending. Pure."""

from __future__ import annotations

from typing import Any

from workers.broker.backend import MAX_REASON
from workers.broker.endings import (
    AwaitingChildren,
    Completed,
    Delayed,
    Ending,
    Failed,
    HandedBack,
    RateLimited,
    Requeued,
)
from workers.broker.numbers import is_number
from workers.broker.result import clean
from workers.contract import Cancel, HandBack, Requeue, Snooze, WaitForChildren
from workers.contract import RateLimited as RateLimit
from workers.runtime.retry import wait_ms

#: Starts of a job after which each of its Requeues, and each WaitForChildren, waits before the next, and how long (ms):
#: at the front of `wait` it would be back at once, and a job that always answers so would keep its slot for ever.
FREE_STARTS, PAUSE_MS = 100, 1000


def ending_of(value: Any, *, start: int, asked: bool) -> Ending | str:
    """The ending, or what is wrong with the outcome.

    Args:
        value: a result or an outcome.
        start: which of the job's starts this was, from 1.
        asked: the host has asked for the slot.
    """
    match value:
        case Snooze(delay_s=delay, reason=reason) if is_number(delay):
            return Delayed(delay_ms=wait_ms(delay), reason=_said(reason))
        case RateLimit(delay_s=delay, reason=reason) if is_number(delay):
            return RateLimited(delay_ms=wait_ms(delay), reason=_said(reason))
        case Snooze(delay_s=delay) | RateLimit(delay_s=delay):
            return f"{type(value).__name__}(delay_s={str(delay)[:40]}), which is no number of seconds"
        case Requeue(reason=reason) if start < FREE_STARTS:
            return Requeued(reason=_said(reason))
        case Requeue(reason=reason):
            return Delayed(delay_ms=PAUSE_MS, reason=_said(reason))
        case WaitForChildren(reason=reason):
            return AwaitingChildren(reason=_said(reason), delay_ms=0 if start < FREE_STARTS else PAUSE_MS)
        case Cancel(reason=reason):
            return Failed(reason=_said(reason), error="Cancel")
        case HandBack(reason=reason) if asked:
            return HandedBack(reason=_said(reason))
        case HandBack():  # as above
            return "HandBack although nobody had asked for the slot; Snooze puts a job off"
        case _:
            return Completed(result=value)


def _said(reason: object) -> str:
    return clean(str(reason), MAX_REASON)

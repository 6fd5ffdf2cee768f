"""From what a processor returned to an ending. Pure."""

from __future__ import annotations

from typing import Any, get_args

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
from workers.contract import Cancel, HandBack, Outcome, Park, Requeue, Snooze, TimeUp, WaitForChildren
from workers.contract import RateLimited as RateLimit
from workers.runtime.retry import wait_ms

#: Starts of a job after which each of its Requeues, and each WaitForChildren, waits before the next, and how long (ms):
#: at the front of `wait` it would be back at once, and a job that always answers so would keep its slot for ever.
FREE_STARTS, PAUSE_MS = 100, 1000

#: All that is no result.
OUTCOMES: tuple[type, ...] = get_args(Outcome)


def ending_of(value: Any, *, start: int, asked: bool) -> Ending | str:
    """The ending, or what is wrong with the outcome.

    Args:
        value: a result or an outcome.
        start: which of the job's starts this was, from 1.
        asked: the host has asked for the slot.
    """
    if not isinstance(value, OUTCOMES):
        return Completed(result=value)
    match value:
        case Snooze(delay_s=wait) | RateLimit(delay_s=wait) | Park(wake_s=wait):
            return _put_off(value, wait)
        case Requeue() | WaitForChildren():
            return _started_again(value, start)
        case Cancel(reason=reason):
            return Failed(reason=_said(reason), error="Cancel")
        case HandBack(reason=reason) if asked:
            return HandedBack(reason=_said(reason))
        case TimeUp():
            return "TimeUp although its time was not up"
    return "HandBack although nobody had asked for the slot; Snooze puts a job off"


def _put_off(value: Snooze | RateLimit | Park, wait: Any) -> Ending | str:
    if not is_number(wait):
        field = "wake_s" if isinstance(value, Park) else "delay_s"
        return f"{type(value).__name__}({field}={str(wait)[:40]}), which is no number of seconds"
    kind = RateLimited if isinstance(value, RateLimit) else Delayed
    return kind(delay_ms=wait_ms(wait), reason=_said(value.reason))


def _started_again(value: Requeue | WaitForChildren, start: int) -> Ending:
    pause_ms = 0 if start < FREE_STARTS else PAUSE_MS
    if isinstance(value, WaitForChildren):
        return AwaitingChildren(reason=_said(value.reason), delay_ms=pause_ms)
    if pause_ms:
        return Delayed(delay_ms=pause_ms, reason=_said(value.reason))
    return Requeued(reason=_said(value.reason))


def _said(reason: object) -> str:
    return clean(str(reason), MAX_REASON)

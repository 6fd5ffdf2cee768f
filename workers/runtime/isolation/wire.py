"""What crosses between a process and its child, as JSON: outcomes, requests, failures, errors of calls. Pure.

What came from a child was written by code that may do anything: it is read strictly, and FrameError says what is wrong.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, cast, get_args

from workers.broker.numbers import is_number
from workers.broker.result import clean, message
from workers.contract import (
    BudgetError,
    Cancel,
    CrashedError,
    FailureClass,
    HandBack,
    Outcome,
    Park,
    PermanentError,
    RateLimited,
    RateLimitError,
    Requeue,
    Snooze,
    StopRequest,
    TimeUp,
    TransientError,
    UnavailableError,
    UserError,
    Verdict,
    WaitForChildren,
)
from workers.runtime.error_stack import MAX_STACK, error_stack
from workers.runtime.isolation.call import RemoteError
from workers.runtime.isolation.frames import FrameError

#: Characters of a reason and of a name that cross.
MAX_REASON, MAX_NAME = 8_192, 100

_OUTCOMES: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (Snooze, Park, Cancel, RateLimited, WaitForChildren, Requeue, HandBack, TimeUp)
}
#: What a call may raise in a child as what it is; subclasses arrive as the nearest of these.
_ERRORS: Mapping[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        TransientError,
        RateLimitError,
        CrashedError,
        PermanentError,
        BudgetError,
        UserError,
        UnavailableError,
        ValueError,
        TypeError,
    )
}


# ---------------------------------------------------------------------- outcomes


def outcome_fields(value: Any) -> dict[str, Any] | None:
    """An outcome as JSON; None where the value is none."""
    kind = next((each for each in type(value).__mro__ if _OUTCOMES.get(each.__name__) is each), None)
    if kind is None:
        return None
    fields = {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(kind)}
    return {"name": kind.__name__, **fields}


def outcome_of(fields: Any) -> Outcome:
    """The outcome again.

    Raises:
        FrameError: it is none.
    """
    given = dict(_object(fields, "outcome"))
    kind = _OUTCOMES.get(str(given.pop("name", None)))
    if kind is None or not given.keys() <= {each.name for each in dataclasses.fields(kind)}:
        raise FrameError("an outcome that is none")
    try:
        return cast(Outcome, kind(**given))
    except TypeError as error:
        raise FrameError("an outcome without its fields") from error


def _plain(value: Any) -> Any:
    """What JSON carries as it is; anything else as text, which no number of seconds is."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if is_number(value) else str(type(value))
    return clean(_text(value), MAX_REASON)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return type(value).__name__


# ---------------------------------------------------------------------- requests


def stop_fields(stop: StopRequest | None) -> dict[str, Any] | None:
    """A request as JSON, its time as what is left of it: clocks need not agree."""
    if stop is None:
        return None
    return {"kind": stop.kind, "reason": stop.reason, "in_s": stop.by - time.monotonic()}


def stop_of(fields: Any) -> StopRequest | None:
    """The request again, in a child, which trusts its host."""
    if fields is None:
        return None
    return StopRequest(kind=fields["kind"], reason=fields["reason"], by=time.monotonic() + fields["in_s"])


# ---------------------------------------------------------------------- failures


def failure_fields(error: Exception, verdict: Verdict) -> dict[str, Any]:
    """What a processor raised, as JSON: bounded, whatever its exception does when it is looked at."""
    return {
        "name": clean(type(error).__name__, MAX_NAME),
        "reason": message(error, MAX_REASON),
        "stack": error_stack(error),
        "verdict": {
            "retry": bool(verdict.retry),
            "retry_after_s": float(verdict.retry_after_s) if is_number(verdict.retry_after_s) else None,
            "failure": verdict.failure,
        },
    }


def failure_of(fields: Any) -> RemoteError:
    """The failure, to be raised at home.

    Raises:
        FrameError: it is none.
    """
    given = _object(fields, "failure")
    name, reason, stack = (_str(given, key) for key in ("name", "reason", "stack"))
    said = _object(given.get("verdict"), "verdict")
    failure = said.get("failure")
    after = said.get("retry_after_s")
    verdict = Verdict(
        retry=said.get("retry") is True,
        retry_after_s=after if is_number(after) else None,
        failure=cast(FailureClass, failure) if failure in get_args(FailureClass) else None,
    )
    return RemoteError(clean(name, MAX_NAME), clean(reason, MAX_REASON), clean(stack, MAX_STACK), verdict)


# ------------------------------------------------------------- errors of calls


def error_fields(error: Exception) -> dict[str, Any]:
    """What a call of a child's raised here, as JSON."""
    kind = next((each for each in type(error).__mro__ if _ERRORS.get(each.__name__) is each), None)
    text = message(error, MAX_REASON)
    if kind is None:  # of a class that the child does not have; it may be otherwise next time
        return {"name": "TransientError", "text": f"{type(error).__name__}: {text}"}
    after = getattr(error, "retry_after_s", None)
    return {"name": kind.__name__, "text": text, "retry_after_s": after if is_number(after) else None}


def error_of(fields: Mapping[str, Any]) -> Exception:
    """The error again, in a child, which trusts its host."""
    kind = _ERRORS[fields["name"]]
    error = kind(fields["text"])
    if isinstance(error, TransientError):
        error.retry_after_s = fields.get("retry_after_s")
    return error


# ---------------------------------------------------------------------- reading


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FrameError(f"no {what}")
    return value


def _str(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise FrameError(f"no {key}")
    return value

"""BullMQ's keep rules for finished jobs (removeOnComplete, removeOnFail), read tolerantly."""

from __future__ import annotations

from typing import Any

from workers.broker.numbers import is_number, whole

#: The most that a rule's count, age or limit can say: about 70 years in seconds.
MAX_RULE = 2**31 - 1


def keep_jobs(own: Any, default: Any) -> dict[str, int]:
    """What moveToFinished takes as `keepJobs`.

    Args:
        own: the job's own option: true (keep none), a count, {"age": seconds, "count": n, "limit": n} or absent.
            It is the Node stack's dedupe window and always wins; only where it makes no sense is the default used,
            because the Lua script would stumble over it and leave the job active.
        default: the queue's rule in the same forms.
    """
    rule = _rule(own)
    if rule is None:
        rule = _rule(default)
    return rule if rule is not None else {"count": -1}


def _rule(value: Any) -> dict[str, int] | None:
    if value is True:
        return {"count": 0}
    if value is False:
        return {"count": -1}
    if is_number(value):
        return {"count": whole(value, low=-1, high=MAX_RULE)}
    if isinstance(value, dict):
        return _limits(value) or None
    return None


def _limits(value: dict[str, Any]) -> dict[str, int]:
    # A negative age would empty the whole finished set, and the script breaks on fractions.
    lowest = {"age": 0, "count": -1, "limit": 1}
    return {
        key: whole(value[key], low=low, high=MAX_RULE)
        for key, low in lowest.items()
        if is_number(value.get(key)) and value[key] >= low
    }

"""BullMQ's keep rules for finished jobs (removeOnComplete, removeOnFail), read tolerantly."""

from __future__ import annotations

import math
from typing import Any


def keep_jobs(own: Any, default: Any) -> dict[str, float]:
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


def _rule(value: Any) -> dict[str, float] | None:
    if value is True:
        return {"count": 0}
    if value is False:
        return {"count": -1}
    if _is_number(value):
        return {"count": int(value)}
    if isinstance(value, dict):
        rule = {key: value[key] for key in ("age", "count", "limit") if _is_number(value.get(key))}
        return rule or None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

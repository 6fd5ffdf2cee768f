"""How many requests one caller may make: a bucket of permits each, refilled evenly."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: Callers that are remembered; the one that has been quiet the longest is forgotten first.
MAX_CALLERS = 10_000


class RateLimiter:
    """Counts by caller.

    Args:
        count: requests in one span; that many may come at once.
        per_s: the span, seconds.
        clock: monotonic seconds.
    """

    def __init__(self, count: int, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._per_s = count, per_s
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Permits left, and when that was."""

    def wait_s(self, caller: str) -> float:
        """Take a permit and return 0, or return how many seconds are left until there is one."""
        now = self._clock()
        left, at = self._buckets.pop(caller, (float(self._count), now))
        left = min(float(self._count), left + (now - at) * self._count / self._per_s)
        allowed = left >= 1
        self._buckets[caller] = (left - 1 if allowed else left, now)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) * self._per_s / self._count

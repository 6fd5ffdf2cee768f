"""When a process that beats no more is killed. Pure.

Its loop is blocked, the GIL is held, or it was stopped. While a job of its may still run it is left alone, since that
job is what it is busy with; past the last rung of all its jobs nothing is left to wait for.
"""

from __future__ import annotations

import math

#: A beat older than this counts as silence, seconds.
SILENT_S = 10.0
#: How long a process that runs none of its jobs may be silent, seconds.
IDLE_S = 60.0
#: How long after the end of its last job's lease it is left alone, seconds; the lease itself lasts for some time after
#: the job's last rung, which a clean-up may take.
GRACE_S = 5.0


def overdue(silent_s: float, *, started: bool, busy_until: float | None, now: float, limit_s: float) -> bool:
    """Whether the process is to be killed.

    Args:
        silent_s: seconds since the last beat, or since its birth.
        started: it has said that its queues are open; until then, and while it holds no job, it may be busy with
            imports and connections. A job is proof enough that they are.
        busy_until: monotonic seconds until which one of its jobs may run; infinite: it holds jobs of which none runs,
            they are about to start or to end; None: it holds none.
        now: monotonic seconds.
        limit_s: the silence after which it is killed in any case.
    """
    if silent_s <= SILENT_S:
        return False
    if silent_s > limit_s:
        return True
    if busy_until is None:
        return started and silent_s > IDLE_S
    if math.isinf(busy_until):
        return silent_s > IDLE_S
    return now > busy_until + GRACE_S

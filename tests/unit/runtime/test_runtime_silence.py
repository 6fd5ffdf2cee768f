"""A process that beats no more is left alone as long as one of its jobs may run, and killed after that."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.lease_table import KEPT_S
from workers.runtime.supervision.life import AWAY_S, LISTEN_S
from workers.runtime.supervision.silence import GRACE_S, IDLE_S, SILENT_S, overdue

NOW = 1000.0
LIMIT_S = 3660.0


@pytest.mark.parametrize(
    ("silent_s", "started", "busy_until", "expected"),
    [
        # it is not silent yet, whatever its jobs
        (SILENT_S, True, NOW - 500, False),
        (SILENT_S, True, None, False),
        # it holds no job
        (IDLE_S, True, None, False),
        (IDLE_S + 1, True, None, True),
        # one of its jobs may still run, or its clean-up
        (SILENT_S + 1, True, NOW + 1, False),
        (IDLE_S + 1, True, NOW + 1, False),
        (SILENT_S + 1, True, NOW - GRACE_S, False),
        # past its longest rung and the grace
        (SILENT_S + 1, True, NOW - GRACE_S - 0.1, True),
        # it holds jobs of which none runs
        (IDLE_S, True, math.inf, False),
        (IDLE_S + 1, True, math.inf, True),
        (IDLE_S + 1, False, math.inf, True),
        # whatever may still run, the limit ends it
        (LIMIT_S, True, NOW + 500, False),
        (LIMIT_S + 1, True, NOW + 500, True),
        # its first job has come before it could say that it has started
        (SILENT_S + 1, False, NOW - GRACE_S - 0.1, True),
        (SILENT_S + 1, False, NOW - GRACE_S, False),
        (IDLE_S + 1, False, NOW + 1, False),
        # it is still importing what it needs
        (IDLE_S + 1, False, None, False),
        (LIMIT_S + 1, False, None, True),
    ],
)
def test_silent_process_is_killed_when_nothing_is_left_to_wait_for(
    silent_s: float, started: bool, busy_until: float | None, expected: bool
) -> None:
    assert overdue(silent_s, started=started, busy_until=busy_until, now=NOW, limit_s=LIMIT_S) is expected


times = st.floats(0, 1e6)


@given(times, times, st.booleans(), st.none() | st.floats(0, 1e6), times, st.floats(SILENT_S, 1e5))
def test_longer_silence_never_saves_a_process(
    silent_s: float, more_s: float, started: bool, busy_until: float | None, now: float, limit_s: float
) -> None:
    before = overdue(silent_s, started=started, busy_until=busy_until, now=now, limit_s=limit_s)
    after = overdue(silent_s + more_s, started=started, busy_until=busy_until, now=now + more_s, limit_s=limit_s)
    assert after or not before


@given(times, st.booleans(), st.floats(0, 1e6), st.floats(SILENT_S, 1e5))
def test_process_with_a_job_that_may_run_is_spared_up_to_the_limit(
    silent_s: float, started: bool, now: float, limit_s: float
) -> None:
    killed = overdue(silent_s, started=started, busy_until=now + 1, now=now, limit_s=limit_s)
    assert killed == (silent_s > limit_s and silent_s > SILENT_S)


def test_locks_of_a_process_that_is_to_be_killed_last_until_then() -> None:
    """It has fallen silent before the end of its last job's lease, or the end of the ladder would have been heeded."""
    assert max(SILENT_S, GRACE_S) + LISTEN_S + AWAY_S < KEPT_S

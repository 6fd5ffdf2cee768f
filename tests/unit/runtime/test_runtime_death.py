"""When a process that died is started again, and what is said about its death."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.supervision.death import (
    RESTART_FIRST_S,
    RESTART_MAX_S,
    Killed,
    death,
    death_notice,
    restart_delay_s,
)


@pytest.mark.parametrize(
    ("deaths", "delay_s"), [(0, 0.5), (1, 0.5), (2, 1), (3, 2), (4, 4), (6, 16), (7, 30), (8, 30), (10**9, 30)]
)
def test_restarts_wait_twice_as_long_each_time_up_to_half_a_minute(deaths: int, delay_s: float) -> None:
    assert restart_delay_s(deaths) == delay_s


@given(st.integers())
def test_wait_is_always_within_its_bounds(deaths: int) -> None:
    assert RESTART_FIRST_S <= restart_delay_s(deaths) <= RESTART_MAX_S


@pytest.mark.parametrize(
    ("code", "notice"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "SIGKILL"),
        (-15, "SIGTERM"),
        (-250, "signal 250"),
    ],
)
def test_death_is_named(code: int, notice: str) -> None:
    assert death_notice(code) == notice


def judged(code: int, asked: bool = False, killed: Killed | None = None) -> dict[str, Any]:
    found = death("p-0", "p", 7, code, asked=asked, killed=killed, silent_s=75.4)
    return {"notice": found.notice, "reason": found.reason, "expected": found.expected}


KILL, TERM, SEGV = -signal.SIGKILL, -signal.SIGTERM, -signal.SIGSEGV


@pytest.mark.parametrize(
    ("code", "asked", "killed", "notice", "reason", "expected"),
    [
        (0, False, None, "exit code 0", "exit", False),
        (78, False, None, "exit code 78", "exit", False),
        (KILL, False, None, "SIGKILL", "SIGKILL", False),
        (SEGV, False, None, "SIGSEGV", "SIGSEGV", False),
        (KILL, False, "silence", "SIGKILL after 75 s of silence", "silence", False),
        (KILL, True, "silence", "SIGKILL after 75 s of silence", "silence", False),
        (0, True, None, "exit code 0", "exit", True),
        (1, True, None, "exit code 1", "exit", True),
        (TERM, True, None, "SIGTERM", "SIGTERM", True),
        (TERM, False, None, "SIGTERM", "SIGTERM", False),
        (SEGV, True, None, "SIGSEGV", "SIGSEGV", False),
        (KILL, True, None, "SIGKILL", "SIGKILL", False),
        (KILL, True, "drain", "SIGKILL", "SIGKILL", True),
        (0, True, "drain", "exit code 0", "exit", True),
        (0, False, "silence", "exit code 0", "exit", False),
    ],
)
def test_death_is_expected_only_where_a_drain_ended_it(
    code: int, asked: bool, killed: Killed | None, notice: str, reason: str, expected: bool
) -> None:
    assert judged(code, asked, killed) == {"notice": notice, "reason": reason, "expected": expected}

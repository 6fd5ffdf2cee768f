"""When a process that died is started again, and what is said about its death."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.pool_child import RESTART_FIRST_S, RESTART_MAX_S, death_notice, restart_delay_s


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

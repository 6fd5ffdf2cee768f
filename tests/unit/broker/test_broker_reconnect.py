"""The waits between tries while Redis is away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.broker.reconnect import RECONNECT, Reconnect


@given(st.floats(0.001, 10), st.floats(1, 100), st.integers(1, 10_000))
def test_waits_double_up_to_the_longest_and_half_of_each_is_random(first: float, factor: float, failures: int) -> None:
    reconnect = Reconnect(first, first * factor)
    top = min(first * factor, first * 2 ** min(failures - 1, 60))
    assert top / 2 <= reconnect.wait_s(failures) <= top


def test_two_workers_do_not_wait_the_same() -> None:
    assert len({RECONNECT.wait_s(5) for _ in range(50)}) > 40


def test_defaults_are_short() -> None:
    assert RECONNECT.wait_s(1) <= 0.1
    assert 1.5 <= RECONNECT.wait_s(1_000_000) <= 3.0

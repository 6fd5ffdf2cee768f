"""The page of the looks says what was missed."""

from __future__ import annotations

import pytest

from tests.benchmarks.look import Look, page


@pytest.mark.parametrize(
    ("look", "is_met", "told"),
    [
        (Look("a", [1.0, 2.0, 9.0], 1, 5.0, 1), True, "| a | 2.00 | 9.00 | 1 | 5 ms, 1 round trip: met |"),
        (Look("a", [1.0, 5.0, 9.0], 1, 5.0, 1), False, "| 1 | 5 ms, 1 round trip: **missed** |"),
        (Look("a", [1.0], 2, 5.0, 1), False, "| 2 | 5 ms, 1 round trip: **missed** |"),
        (Look("a", [1.0], 9, 50.0), True, "| 9 | 50 ms: met |"),
        (Look("a", [900.0], 9), True, "| a | 900.00 | 900.00 | 9 |  |"),
    ],
)
def test_each_look_has_its_line(look: Look, is_met: bool, told: str) -> None:
    assert look.is_met is is_met
    assert told in page([look], 3)

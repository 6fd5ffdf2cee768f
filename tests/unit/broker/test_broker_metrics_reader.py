"""BullMQ's counts by minute are read as they were written."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.broker.metrics_reader import Counts

MINUTE = 60_000
START = 30_000_000 * MINUTE


class Written:
    """collectMetrics of moveToFinished-14.lua, line by line."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self.previous: tuple[int, int] | None = None
        self.points: list[int] = []

    def end(self, at_ms: int) -> None:
        count, self.count = self.count, self.count + 1
        if self.previous is None:
            self.previous = (at_ms, 0)
            return
        minutes = min(at_ms // MINUTE - self.previous[0] // MINUTE, self.most)
        if minutes > 0:
            self.points.insert(0, count - self.previous[1])
            for _ in range(minutes - 1):
                self.points.insert(0, 0)
            del self.points[self.most :]
            self.previous = (at_ms, count)

    @property
    def counts(self) -> Counts:
        at_ms, count = self.previous or (0, 0)
        return Counts(self.count, at_ms, count, tuple(self.points))


@settings(deadline=None)
@given(st.lists(st.integers(0, 12 * MINUTE), max_size=60), st.integers(0, 5 * MINUTE))
def test_each_job_is_counted_in_its_minute(ends: list[int], later: int) -> None:
    written = Written(1000)
    for end in sorted(ends):
        written.end(START + end)
    now = START + max(ends, default=0) + later
    minutes = 20
    found = written.counts.per_minute(now, minutes)
    true = Counter((START + end) // MINUTE for end in ends)
    assert found == [true[minute] for minute in range(now // MINUTE - minutes + 1, now // MINUTE + 1)]


def test_what_is_no_longer_kept_is_none() -> None:
    written = Written(3)
    for minute in range(10):
        written.end(START + minute * MINUTE)
    assert written.counts.per_minute(START + 9 * MINUTE, 6) == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("counts", [Counts(), Counts(5, 0, 9, (3,)), Counts(1, START + 90 * MINUTE, 9, (7,))])
def test_counts_that_make_no_sense_are_none(counts: Counts) -> None:
    assert counts.per_minute(START, 3) == [0, 0, 0]

"""One kind of worker in the contest, opened and closed many times."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tests.benchmarks.contest.tally import Tally

#: Longer than any measurement, so that no renewal comes between.
LOCK_MS = 60_000


class Kind(ABC):
    """Serves one queue at a time of the server at `url`, and counts in `tally`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.tally = Tally(0)

    @abstractmethod
    async def open(self, queue: str, slots: int) -> None:
        """Begin to serve."""

    @abstractmethod
    async def close(self) -> None:
        """Stop, with nothing left behind."""

"""How long to wait before trying Redis again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Waits between tries while Redis is away, seconds: the first and the longest."""

    first_s: float = 0.1
    max_s: float = 3.0

    def wait_s(self, failures: int) -> float:
        """The wait after so many failures in a row: doubling up to the longest, half of it at random so that a fleet
        spreads out."""
        top: float = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return top * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, not security


#: The defaults.
RECONNECT = Reconnect()

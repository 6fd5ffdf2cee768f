"""What one job needed of memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobMemory:
    """Resident memory of the process that ran one job and nothing else meanwhile, bytes."""

    before: int
    after: int
    peak: int | None = None
    """The most while it ran, where the system tells it."""

    @property
    def delta(self) -> int:
        """What the job left behind, in bytes; may be negative."""
        return self.after - self.before

"""What a task may use up."""

from __future__ import annotations

from pydantic import Field

from tasks.base import Part
from tasks.credits import Credits
from tasks.number import Count, Share


class Allocation(Part):
    """Bounds of a swarm, a run or a completion. None: its producer set none; the engine's own apply."""

    max_credits: Credits | None
    max_duration_ms: Share | None
    max_memory_mb: Share | None = Field(alias="maxMemoryMB")
    max_concurrent_steps: Count | None
    max_tokens: Count | None = None
    """Set by the oldest producers of swarms alone."""

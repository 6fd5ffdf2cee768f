"""Where a swarm or a run belongs: the `context` of Node's requests between its tiers."""

from __future__ import annotations

from tasks.base import Part
from tasks.session_user import SessionUser


class TierContext(Part):
    """The swarm around the work, and its user."""

    swarm_id: str | None
    """None: a run that belongs to no swarm, as older producers wrote it."""
    user_data: SessionUser
    parent_swarm_id: str | None = None
    timestamp: str | None = None
    """When it was asked for, ISO 8601."""


class SwarmContext(TierContext):
    """Which swarm it is, whose, and the one that has started it."""

    swarm_id: str

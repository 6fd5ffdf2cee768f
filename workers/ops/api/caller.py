"""Who asks, and what they may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from workers.queue_service.actor import Role

How: TypeAlias = Literal["token", "session", "local"]

#: From little to much; each may what the ones before it may.
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has shown who they are, or is on this machine."""

    name: str
    role: Role
    how: How
    """local: by being on this machine, which lets look and no more."""

    def may(self, role: Role) -> bool:
        """Whether this role is theirs."""
        return ROLES.index(self.role) >= ROLES.index(role)

"""Who acts on a queue, for the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["viewer", "operator", "admin"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody, or a part of the fleet."""

    name: str
    """A person's or a token's name; never a secret."""
    via: Literal["cli", "http", "fleet", "python"] = "python"
    user_id: str | None = None
    """Node's id of the user on whose behalf it is; ownership is asked for by it. None: an operator, who may all."""

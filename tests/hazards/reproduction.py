"""What a reproduction is: one course of events for either worker, and what was seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.hazards.subject import Lab, Subject

#: Makes the worker under reproduction: its URL, its process, its setting.
Make: TypeAlias = Callable[..., Subject]


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether the hazard showed, and what happened in a few words."""

    seen: bool
    said: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One hazard."""

    title: str
    play: Callable[[Make, Lab], Awaitable[Seen]]
    test: str
    """Where our side of it is kept from coming back."""
    limit_s: float = 30.0
    """After so long the process that plays it hangs, and is killed."""
    hang: str = ""
    """What it means when it hangs, where that is the hazard itself; else it has only failed to be reproduced."""

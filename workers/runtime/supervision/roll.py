"""What a new configuration means for the processes that run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.runtime.supervision.spec import ChildSpec


@dataclass(frozen=True, slots=True)
class Roll:
    """Names of processes, each in one of these."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """They drain, and none follows."""
    replaced: tuple[str, ...] = ()
    """They would be told something else at their start: replaced one after the other."""
    adjusted: tuple[str, ...] = ()
    """Only what their supervisor holds them to is another: their limits, their grace."""
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = {
            "started": self.added,
            "drained": self.removed,
            "replaced": self.replaced,
            "adjusted": self.adjusted,
            "left alone": self.kept,
        }
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in words.items() if names)


def plan(present: Mapping[str, ChildSpec], wanted: Mapping[str, ChildSpec]) -> Roll:
    """Compare the processes that run, by name, with those that should."""
    both = [name for name in present if name in wanted]
    replaced = [name for name in both if not present[name].starts_like(wanted[name])]
    adjusted = [name for name in both if name not in replaced and present[name] != wanted[name]]
    return Roll(
        added=tuple(name for name in wanted if name not in present),
        removed=tuple(name for name in present if name not in wanted),
        replaced=tuple(replaced),
        adjusted=tuple(adjusted),
        kept=tuple(name for name in both if present[name] == wanted[name]),
    )

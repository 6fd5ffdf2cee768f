"""How many runs of this process are left behind: they ignored their cancellation and go on without a slot."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Source(Protocol):
    """An isolation that can't end every run."""

    def left_behind(self) -> tuple[str, int]:
        """Its queue, empty before the first run, and how many runs of it are left behind now."""


_sources: WeakSet[Source] = WeakSet()


def watch(source: Source) -> None:
    """Count the runs of this isolation too, for as long as there is one who uses it."""
    _sources.add(source)


def counts() -> dict[str, int]:
    """By queue, as of now. On the loop."""
    found: dict[str, int] = {}
    for source in _sources:
        queue, runs = source.left_behind()
        if queue:
            found[queue] = found.get(queue, 0) + runs
    return found

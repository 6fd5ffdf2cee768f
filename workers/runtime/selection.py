"""Which queues a process serves: those of the configuration that were asked for and that have a module. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from config.overrides import suggestion
from config.schema import FleetConfig, QueueConfig


class SelectionError(Exception):
    """A pool or queue was asked for that the configuration does not have, or nothing is left to serve."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The queues to serve, and those of the configuration that are left out."""

    served: Mapping[str, QueueConfig]
    skipped: Mapping[str, str]
    """Queue → why."""

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools of the served queues."""
        return tuple(sorted({entry.pool for entry in self.served.values()}))


def select(
    config: FleetConfig,
    available: Collection[str],
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
) -> Selection:
    """Choose by pool and queue; None means all.

    Args:
        available: the queues that have a module.

    Raises:
        SelectionError: a name is not in the configuration, or nothing is left to serve.
    """
    for what, asked, known in (("pool", pools, config.pools), ("queue", queues, config.queues)):
        for name in asked or ():
            if name not in known:
                raise SelectionError(f"the configuration has no {what} '{name}'{suggestion(name, sorted(known))}")
    chosen = {
        name: entry
        for name, entry in config.queues.items()
        if (pools is None or entry.pool in pools) and (queues is None or name in queues)
    }
    served = {name: entry for name, entry in chosen.items() if name in available or entry.module is not None}
    skipped = {name: "not served yet: this version has no module for it" for name in chosen if name not in served}
    if not served:
        raise SelectionError(f"nothing to serve: {_why_nothing(chosen, available, pools, queues)}")
    return Selection(served=served, skipped=skipped)


def _why_nothing(
    chosen: Collection[str],
    available: Collection[str],
    pools: Collection[str] | None,
    queues: Collection[str] | None,
) -> str:
    if chosen:
        there = ", ".join(sorted(available)) or "none"
        return f"this version has no module for {', '.join(sorted(chosen))}; it has: {there}"
    if queues is not None and not queues:
        return "no queue is named"
    which = f"of {', '.join(queues)} none" if queues else "no queue"
    return f"{which} is in pool {', '.join(pools or ())}"

"""Which queues a process serves: those of the configuration that were asked for and that have a module. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from config.accept_section import module_of, types_of
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
        available: the task types that have a module.

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
    missing = {name: _missing(name, entry, available) for name, entry in chosen.items()}
    served = {name: entry for name, entry in chosen.items() if not missing[name]}
    skipped = {name: _why_skipped(name, types) for name, types in missing.items() if types}
    if not served:
        raise SelectionError(f"nothing to serve: {_why_nothing(chosen, available, pools, queues)}")
    return Selection(served=served, skipped=skipped)


def _missing(queue: str, entry: QueueConfig, available: Collection[str]) -> list[str]:
    """The types that the queue carries and nothing here can run. Its jobs are left to those that can run all of them:
    a worker that can't would put them off and fail them in the end.
    """
    types = types_of(queue, entry)
    return [kind for kind in types if kind not in available and module_of(queue, entry, kind) is None]


def _why_skipped(queue: str, missing: list[str]) -> str:
    what = "it" if missing == [queue] else f"what it carries: {', '.join(missing)}"
    return f"not served yet: this version has no module for {what}"


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

"""Takes over a new configuration while the processes run: what is to happen, and what can't before the next start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from config.schema import FleetConfig
from workers.runtime.selection import Selection
from workers.runtime.supervision.brief import queues_by_pool
from workers.runtime.supervision.roll import Roll
from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.supervisor import Supervisor
from workers.runtime.supervision.view import ReloadView

#: Sections that the supervisor itself holds on to: its servers, its connection to Redis.
FIXED = ("http", "redis", "api")
#: What of them takes effect at once all the same.
LIVE = {"api": ("tokens",)}


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a new configuration came to."""

    roll: Roll
    later: tuple[str, ...]
    """Keys that have changed and take effect at the next start only."""


class Reload:
    """The configuration in force, and how another one takes its place.

    Args:
        config: the one in force at start.
        supervisor: runs the processes.
        choose: the queues that are served of a configuration; raises SelectionError.
        specs: the processes that serve them.
        adopt: told a configuration and its queues when it takes effect.
        on_result: told each result and when, seconds since the epoch.
    """

    def __init__(
        self,
        config: FleetConfig,
        supervisor: Supervisor,
        *,
        choose: Callable[[FleetConfig], Selection],
        specs: Callable[[FleetConfig, Selection], Sequence[ChildSpec]],
        adopt: Callable[[FleetConfig, Selection], None],
        on_result: Callable[[str, float], None],
    ) -> None:
        self.config = config
        """The one in force."""
        self._supervisor = supervisor
        self._choose = choose
        self._specs = specs
        self._adopt = adopt
        self._on_result = on_result

    def apply(self, config: FleetConfig) -> Reloaded:
        """Let a valid configuration take effect.

        Raises:
            SelectionError: it has nothing to serve, or not what was asked for; nothing was changed.
        """
        later = postponed(self.config, config)
        config = config.model_copy(update={name: _kept(name, self.config, config) for name in FIXED})
        chosen = self._choose(config)
        specs = self._specs(config, chosen)
        self.config = config
        self._adopt(config, chosen)
        roll = self._supervisor.apply(specs, queues_by_pool(chosen))
        self._note(ReloadView(at=time.time(), result="applied", detail=str(roll)))
        return Reloaded(roll, later)

    def refuse(self, problem: str) -> None:
        """Note that a configuration could not be used."""
        self._note(ReloadView(at=time.time(), result="refused", detail=problem))

    def _note(self, view: ReloadView) -> None:
        self._supervisor.reload = view
        self._on_result(view.result, view.at)


def postponed(present: FleetConfig, new: FleetConfig) -> tuple[str, ...]:
    """The keys that differ and are read at start alone. Pure."""
    keys = [
        f"{section}.{name}"
        for section in FIXED
        for name in type(getattr(present, section)).model_fields
        if name not in LIVE.get(section, ())
        and getattr(getattr(present, section), name) != getattr(getattr(new, section), name)
    ]
    if _longest_grace(new) > _longest_grace(present):
        keys.append(f"pools.{_slowest(new)}.grace (of the fleet as a whole)")
    return tuple(keys)


def _kept(section: str, present: FleetConfig, new: FleetConfig) -> Any:
    """A section as it is, but for what of it takes effect at once."""
    kept, fresh = getattr(present, section), getattr(new, section)
    return kept.model_copy(update={name: getattr(fresh, name) for name in LIVE.get(section, ())})


def _longest_grace(config: FleetConfig) -> float:
    return max(pool.grace for pool in config.pools.values())


def _slowest(config: FleetConfig) -> str:
    return max(config.pools, key=lambda name: config.pools[name].grace)

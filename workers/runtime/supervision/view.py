"""What a fleet says of its processes to people on its machine, as values that become JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from workers.runtime.supervision.beat import NO_REPORT, Beat, Report

ProcessState: TypeAlias = Literal["starting", "ready", "not ready", "silent", "recycling", "draining", "dead"]
#: States in which a process takes jobs.
WORKING: tuple[ProcessState, ...] = ("ready", "recycling")
STATES: tuple[ProcessState, ...] = ("starting", "ready", "not ready", "silent", "recycling", "draining", "dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """One process; or where one should be, and is dead."""

    name: str
    pool: str
    state: ProcessState
    detail: str = ""
    """Why it is not ready; why and when it is started anew."""
    report: Report = NO_REPORT
    """What it said last of how it is."""
    deaths: int = 0
    """How often a process of this name died so far, those that were asked to end left out."""
    last_death: str = ""
    """`SIGKILL`, `exit code 1`."""
    recycles: int = 0
    """How often one was replaced on purpose."""
    last_recycle: str = ""
    """Why, the last time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """The processes of one pool."""

    name: str
    processes: int
    """That should run."""
    ready: int
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadView:
    """The last time that the configuration was read again."""

    at: float
    """Seconds since the epoch."""
    result: Literal["applied", "refused", "failed"]
    """refused: it is not valid, nothing was changed. failed: it is valid, and a process that was started with it did
    not work; the old ones went on."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """All of it."""

    pid: int
    """Of the process that answers: the supervisor."""
    mode: Literal["supervisor", "single process"]
    ready: bool
    """Every process takes jobs."""
    pools: tuple[PoolView, ...] = ()
    processes: tuple[ProcessView, ...] = ()
    reload: ReloadView | None = None
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""

    def json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def pools(
    processes: Sequence[ProcessView], wanted: Mapping[str, int], queues: Mapping[str, tuple[str, ...]]
) -> tuple[PoolView, ...]:
    """Count by pool.

    Args:
        wanted: how many processes each pool should have.
        queues: those that each pool serves.
    """
    names = dict.fromkeys((*wanted, *(process.pool for process in processes)))
    return tuple(
        PoolView(
            name=name,
            processes=wanted.get(name, 0),
            ready=len({each.name for each in processes if each.pool == name and each.state in WORKING}),
            queues=queues.get(name, ()),
        )
        for name in names
    )


def single(name: str, beat: Beat, queues: Mapping[str, tuple[str, ...]]) -> FleetView:
    """All pools in one process, which answers itself."""
    wrong = "; ".join(f"{state.name}: {state.detail}" for state in beat.states if not state.ok)
    state: ProcessState = "ready" if beat.ready else "not ready" if beat.started else "starting"
    process = ProcessView(name=name, pool=", ".join(queues), state=state, detail=wrong, report=beat.report)
    return FleetView(
        pid=os.getpid(),
        mode="single process",
        ready=beat.ready,
        pools=tuple(PoolView(name=pool, processes=1, ready=int(beat.ready), queues=q) for pool, q in queues.items()),
        processes=(process,),
    )

"""What the processes of the pools are told, and how they are started: from the configuration to ChildSpecs. Pure.

A process is told what it reads and nothing else. So a new configuration changes the brief of those processes alone that
would work differently, and no process holds the secrets of another pool's queues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from config.accept_section import AcceptConfig, task_of
from config.api_section import ApiConfig
from config.pool_section import PoolConfig
from config.schema import FleetConfig, HttpConfig, QueueConfig
from config.task_section import TaskConfig
from workers.broker.deaths import Bounds
from workers.runtime.selection import Selection
from workers.runtime.supervision import cores
from workers.runtime.supervision.recycle import Limits
from workers.runtime.supervision.spec import ChildSpec

#: How much longer than its longest ladder a process of a pool may be silent before it is killed, seconds.
SILENCE_S = 60.0

_PLAIN = TaskConfig(timeout=1.0)


class PoolBrief(BaseModel):
    """What a supervisor tells a child on its standard input, as one JSON line."""

    model_config = ConfigDict(frozen=True)

    name: str
    config: FleetConfig
    queues: tuple[str, ...]
    shared: Path
    """A directory of the supervisor's: metrics and leases of its children."""

    @property
    def pool(self) -> PoolConfig:
        """The pool that it is a process of."""
        (pool,) = self.config.pools.values()
        return pool


def specs(
    config: FleetConfig,
    chosen: Selection,
    *,
    command: Sequence[str],
    shared: Path,
    longest_s: Callable[[FleetConfig, str], float],
) -> list[ChildSpec]:
    """The processes that serve these queues, `processes` a pool.

    Args:
        command: starts one; the descriptor of the beat pipe follows.
        shared: see PoolBrief.
        longest_s: how long a job of a queue may run, its last rung included.
    """
    found = []
    for pool, queues in queues_by_pool(chosen).items():
        settings = config.pools[pool]
        spec = ChildSpec(
            name=pool,
            pool=pool,
            argv=(*command, "{beat_fd}"),
            stdin=b"",
            silence_s=SILENCE_S + max(longest_s(config, queue) for queue in queues),
            grace_s=settings.grace,
            limits=Limits(memory=settings.memory, max_jobs=settings.max_jobs),
            env={"PROMETHEUS_MULTIPROC_DIR": str(shared)},
        )
        brief = PoolBrief(name=pool, config=told(config, pool, queues), queues=queues, shared=shared)
        for number in range(cores.processes(settings)):
            own = brief.model_copy(update={"name": f"{pool}-{number}"})
            found.append(replace(spec, name=own.name, stdin=own.model_dump_json().encode() + b"\n"))
    return found


def queues_by_pool(chosen: Selection) -> dict[str, tuple[str, ...]]:
    """The served queues of each pool that has any."""
    return {pool: tuple(queue for queue, entry in chosen.served.items() if entry.pool == pool) for pool in chosen.pools}


def bounds(queues: Mapping[str, QueueConfig]) -> dict[str, Bounds]:
    """What a job of each queue may come to."""
    return {queue: Bounds(deaths=entry.deaths, stalls=entry.stalls) for queue, entry in queues.items()}


def told(config: FleetConfig, pool: str, queues: Sequence[str]) -> FleetConfig:
    """What a process of this pool, which serves these queues, reads of the configuration; all else as by default.

    Of the other queues it reads how jobs are added to them (`queue_service/routes.py`), and when they are full.
    """
    own = config.pools[pool].model_copy(update={"processes": 1, "memory": None, "max_jobs": None})
    plain = QueueConfig(pool=pool, concurrency=1, task=_PLAIN)
    entries = {
        queue: entry.model_copy(
            update={
                "deaths": plain.deaths,
                "slo": plain.slo,
                "on_global_pause": None,
                "accepts": _accepted(config, queue, lambda task: task),
            }
        )
        if queue in queues
        else plain.model_copy(
            update={
                "keep": entry.keep,
                "max_data": entry.max_data,
                "max_depth": entry.max_depth,
                "max_chars": entry.max_chars,
                "limits": entry.limits,
                "rate": entry.rate,
                "task": _as_added(entry.task),
                "accepts": _accepted(config, queue, _as_added),
            }
        )
        for queue, entry in config.queues.items()
    }
    supervisors: dict[str, Any] = {
        "http": HttpConfig(),
        "api": ApiConfig(),
        "schedules": None,
        "on_global_pause": "report",
    }
    return config.model_copy(update={**supervisors, "pools": {pool: own}, "queues": entries})


def _accepted(
    config: FleetConfig, queue: str, read: Callable[[TaskConfig], TaskConfig]
) -> dict[str, AcceptConfig] | None:
    """The task types of a queue, each with settings of its own, since it may have them from another queue's.

    Args:
        read: what of a task's settings is read.
    """
    accepts = config.queues[queue].accepts
    if accepts is None:
        return None
    return {
        kind: accept.model_copy(update={"task": read(task_of(config, queue, kind))}) for kind, accept in accepts.items()
    }


def _as_added(task: TaskConfig) -> TaskConfig:
    """What goes into jobs that are added for it."""
    return _PLAIN.model_copy(update={"retry": task.retry, "priority": task.priority})

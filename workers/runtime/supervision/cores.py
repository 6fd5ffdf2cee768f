"""How many cores this process may use: what `processes: auto` starts one process for each of.

Two things bound it: the CPUs that the scheduler may put it on, and the share of time that its control groups allow, as
a container's CPU limit does. A quota of 1.5 cores is worth two processes: one alone could not use it up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from config.pool_section import PoolConfig

#: Where control groups are mounted.
CGROUPS = Path("/sys/fs/cgroup")
#: The control groups of this process, one hierarchy a line (man 7 cgroups, "/proc/[pid]/cgroup").
OWN_GROUPS = Path("/proc/self/cgroup")


def processes(pool: PoolConfig) -> int:
    """How many processes the supervisor keeps running."""
    return available() if pool.processes == "auto" else pool.processes


def available() -> int:
    """The cores that this process may use."""
    return usable(_affinity(), quotas(_text(OWN_GROUPS), CGROUPS))


def usable(cpus: int, quotas: Iterable[float]) -> int:
    """Whole cores, at least one. Pure.

    Args:
        cpus: those that the scheduler may choose from.
        quotas: cores' worth of time that each control group allows; the smallest counts.
    """
    return max(1, min([cpus, *(math.ceil(quota) for quota in quotas)]))


def quotas(groups: str, root: Path) -> list[float]:
    """The CPU quotas that are set on these control groups and on those that hold them, in cores.

    Args:
        groups: the text of /proc/self/cgroup. Inside a container it may name paths of the host, which are not there;
            the container's own group is the root then.
        root: where control groups are mounted.
    """
    found = []
    for line in groups.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:  # version 2, at the root or, in a hybrid set-up, beside version 1
            found += [_max(directory) for mount in (root, root / "unified") for directory in _line(mount, path)]
        elif "cpu" in controllers.split(","):
            mounts = dict.fromkeys((root / controllers, root / "cpu"))
            found += [_cfs(directory) for mount in mounts for directory in _line(mount, path)]
    return [quota for quota in found if quota is not None]


def _line(mount: Path, path: str) -> list[Path]:
    """A group's directory and those above it, up to the mount; the mount alone where the group is outside of it."""
    group = PurePosixPath(path.lstrip("/"))
    if ".." in group.parts:
        return [mount]
    return [mount / each for each in (group, *group.parents)]


def _max(directory: Path) -> float | None:
    """Version 2: `max 100000` or `150000 100000`."""
    quota, period = [*_text(directory / "cpu.max").split(), "", ""][:2]
    return _share(quota, period)


def _cfs(directory: Path) -> float | None:
    """Version 1: two files; -1 is no limit."""
    return _share(_text(directory / "cpu.cfs_quota_us").strip(), _text(directory / "cpu.cfs_period_us").strip())


def _share(quota: str, period: str) -> float | None:
    if not (quota.isdecimal() and period.isdecimal()) or not int(quota) or not int(period):
        return None
    return int(quota) / int(period)


def _affinity() -> int:
    # macOS has no affinity
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""How a child is started, and what it is told before all else: which module to open, and how."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.limits import Limits

_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Brief:
    """JSON in all its parts. It goes over the socket, not by arguments or variables: options may hold secrets."""

    queue: str
    module: str | None
    """The importable module; None: the folder of the task type's name."""
    kind: str = ""
    """The task type whose runs these are; empty: that of the queue's name."""
    options: Mapping[str, Any]
    """`task.options` as they are in YAML, with variables filled in."""
    log_level: str = "info"
    memory_limit: int | None = None
    """RLIMIT_AS, bytes."""
    max_depth: int = _LIMITS.max_depth
    max_chars: int | None = _LIMITS.max_chars
    """How the queue's jobs are read: see `limits`."""
    path: tuple[str, ...] = ()
    """Where modules are imported from: the host's `sys.path`."""
    host_pid: int = 0

    @property
    def limits(self) -> Limits:
        """The bounds of its jobs' data: the host's own, by which it has read them already."""
        return Limits(max_depth=self.max_depth, max_chars=self.max_chars)

    def fields(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


def brief_of(fields: Mapping[str, Any]) -> Brief:
    """The brief again."""
    return Brief(**{**fields, "path": tuple(fields["path"])})


def command() -> tuple[str, ...]:
    """How a child is started; the descriptor of its socket follows.

    -P keeps the interpreter from importing a folder of the working directory that is called like one of our packages;
    only where the working directory is the source tree, the packages may be importable from nowhere else.
    """
    here = Path("workers/runtime/isolation/brief.py")
    at_home = here.exists() and here.samefile(__file__)
    return (sys.executable, *(() if at_home else ("-P",)), "-m", "workers.cli.task_process")

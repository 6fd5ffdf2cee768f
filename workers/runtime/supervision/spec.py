"""How the supervisor starts one process, and what it holds it to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.runtime.supervision.recycle import Limits

NO_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """One process of a pool.

    Args:
        name: pool and number, `communication-0`.
        argv: the command; `{beat_fd}` in it becomes the number of the beat pipe's descriptor.
        stdin: what it reads first; its standard input then stays open as a sign of life. May hold secrets.
        pool: the processes of one pool are replaced one at a time. Defaults to the name without its number.
        silence_s: seconds without a beat after which it is killed in any case: longer than any of its jobs may run,
            since a job that blocks its loop blocks the beat too. Defaults to 60.
        grace_s: seconds that it may take to drain where it alone is to end. Defaults to 30.
        limits: what it may reach before it is replaced. Defaults to no limits.
    """

    name: str
    argv: tuple[str, ...]
    stdin: bytes = field(repr=False)
    pool: str = ""
    silence_s: float = 60.0
    grace_s: float = 30.0
    limits: Limits = NO_LIMITS
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pool:
            object.__setattr__(self, "pool", self.name.rpartition("-")[0] or self.name)

    def starts_like(self, other: ChildSpec) -> bool:
        """Whether a process made from either is the same: command, environment, and what it is told."""
        return (self.argv, self.stdin, self.env) == (other.argv, other.stdin, other.env)

"""What the probes of Kubernetes answer, decided from named checks. Pure.

/livez asks whether a restart would help, /readyz whether the process takes jobs, /startupz whether it ever got there.
Liveness never depends on another server: an outage of Redis would restart the whole fleet and kill its running jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Probe: TypeAlias = Literal["live", "ready", "startup"]

#: A check whose name, up to a colon, has one of these words is about another server and can't gate liveness.
DEPENDENCIES = frozenset(
    {
        "redis",
        "valkey",
        "database",
        "postgres",
        "postgresql",
        "smtp",
        "llm",
        "storage",
        "s3",
        "otlp",
        "collector",
        "dns",
    }
)
#: Characters of a detail that are shown.
MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Check:
    """One named answer, and which probes fail with it.

    Raises:
        ValueError: it gates "live" and its name is about another server, see `DEPENDENCIES`.
    """

    name: str
    """What it is about, then perhaps a colon and which: `event-loop`, `redis:email-send`, `worker:llm-completion`."""
    ok: bool
    detail: str = ""
    """One line for a person; no secrets."""
    gates: frozenset[Probe] = frozenset({"ready"})
    """The probes that fail while this check does. Empty: told by none. Defaults to ready."""

    def __post_init__(self) -> None:
        words = set(re.findall(r"[a-z0-9]+", self.name.partition(":")[0].lower()))
        if "live" in self.gates and words & DEPENDENCIES:
            raise ValueError(
                f"check {self.name!r} is about another server and can't gate liveness; use ready or startup"
            )


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The answer of a probe."""

    status: Literal[200, 503]
    body: dict[str, Any]
    """JSON: `{"status": "ok" | "failing", "checks": [{"name", "ok", "detail"}, …]}`."""


def report(checks: Iterable[Check], probe: Probe) -> HealthReport:
    """The answer of a probe: failing if any check that gates it fails.

    Without any such check a process is alive, but neither ready nor started: nothing has said so yet.
    """
    gating = [check for check in checks if probe in check.gates]
    ok = all(check.ok for check in gating) and (bool(gating) or probe == "live")
    return HealthReport(
        status=200 if ok else 503,
        body={
            "status": "ok" if ok else "failing",
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail[:MAX_DETAIL]} for c in gating],
        },
    )

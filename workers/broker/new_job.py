"""A job that is to be added, as BullMQ's scripts want it. Pure.

As BullMQ for Node writes it (npm bullmq 5 and 6, `Job` and `Scripts.addJob`), which differs from the Python package:
options that nobody set are not written, and the job's data are UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from workers.broker.hold import Parent

Kind: TypeAlias = Literal["standard", "delayed", "prioritized", "parent"]

#: Options that are written under a shorter name (`optsEncodeMap`).
SHORT: Mapping[str, str] = {
    "deduplication": "de",
    "debounce": "de",  # its name before BullMQ 5.17
    "failParentOnFailure": "fpof",
    "continueParentOnFailure": "cpof",
    "ignoreDependencyOnFailure": "idof",
    "removeDependencyOnFailure": "rdof",
    "keepLogs": "kl",
}
#: What a child's failure does to its parent; a job has one of them at most.
CHILD_FAILURES = ("fpof", "cpof", "idof", "rdof")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """One job."""

    queue: str
    name: str
    data: str
    """Its JSON."""
    opts: Mapping[str, Any] = field(default_factory=dict)
    """As they are written, see `written`; without `parent`."""
    id: str = ""
    """Empty: BullMQ counts."""
    parent: Parent | None = None
    has_children: bool = False
    """It waits for jobs that are added with it."""

    @property
    def parent_key(self) -> str:
        """Of its parent's row; empty where it has none."""
        return "" if self.parent is None else f"{self.parent.queue_key}:{self.parent.id}"

    @property
    def kind(self) -> Kind:
        """Which of BullMQ's scripts adds it; as `Scripts.addJob` chooses."""
        if self.has_children:
            return "parent"
        if (delay := self.opts.get("delay")) and isinstance(delay, int | float) and delay > 0:
            return "delayed"
        return "prioritized" if self.opts.get("priority") else "standard"

    @property
    def deduplication_id(self) -> str:
        """Empty: it is not deduplicated."""
        if (chosen := self.opts.get("de")) is None:
            return ""
        return str(chosen["id"]) if isinstance(chosen, Mapping) and "id" in chosen else ""


def written(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Options as Node's callers give them → as they are written into the job. What is None was never given."""
    found: dict[str, Any] = {"attempts": 0}
    for name, value in opts.items():
        if value is None:
            continue
        if name == "telemetry" and isinstance(value, Mapping):
            told = {"tm": value.get("metadata"), "omc": value.get("omitContext")}
            found |= {short: each for short, each in told.items() if each is not None}
        elif name == "backoff" and type(value) in (int, float):
            found[name] = {"type": "fixed", "delay": value}
        else:
            found[SHORT.get(name, name)] = value
    return found


def arguments(job: NewJob, base: str, now_ms: int, pack: Callable[[Any], bytes]) -> tuple[bytes, str, bytes]:
    """ARGV of BullMQ's scripts: packed arguments, data, packed options.

    Args:
        base: of the queue's keys, `bull:email-send:`.
        now_ms: when it is added, where its options have no `timestamp`.
        pack: msgpack's.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: msgpack can't write its options.
    """
    opts: Mapping[str, Any] = job.opts
    key = job.parent_key or None
    parent: dict[str, Any] | None = None
    if job.parent is not None:
        opts = {**opts, "parent": {"id": job.parent.id, "queue": job.parent.queue_key}}
        parent = {"id": job.parent.id, "queueKey": job.parent.queue_key}
        parent.update((flag, True) for flag in CHILD_FAILURES if opts.get(flag))
    chosen = job.deduplication_id
    packed = (
        base,
        job.id,
        job.name,
        opts.get("timestamp") or now_ms,
        key,
        f"{key}:dependencies" if key else None,
        parent,
        None,  # of a scheduler: repeatJobKey
        f"{base}de:{chosen}" if chosen else None,
    )
    return pack(packed), job.data, pack(opts)

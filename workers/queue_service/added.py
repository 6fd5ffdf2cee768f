"""What became of jobs that were to be added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one."""

    queue: str
    job_id: str
    """Its own; of a duplicate that of the job that is there."""
    task_id: str
    """That of the task that was given."""
    duplicate: bool = False
    """It was not added: BullMQ passes over it in silence, since there is a job of its id, or one that has its
    deduplication id. A finished job is there as long as its queue keeps it."""
    state: str | None = None
    """Of a duplicate, the state of the job that is there, in the words of BullMQ's getState: completed, failed, active,
    delayed, prioritized, waiting, waiting-children."""
    by: Literal["id", "deduplication"] | None = None
    """Of a duplicate, by what."""
    held: bool = False
    """A duplicate by `keep_last_if_active` of a job that runs: it is added when that ends, unless another one comes."""


@dataclass(frozen=True, slots=True)
class FlowAdded:
    """What became of a flow."""

    added: Added
    children: tuple[FlowAdded, ...] = ()
    """Empty where the node was a duplicate: it has brought its own children, and none of these was added."""

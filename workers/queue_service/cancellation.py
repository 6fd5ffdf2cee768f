"""What is written into a job that somebody cancels. Pure."""

from __future__ import annotations

from tasks.status import TaskStatus
from workers.broker.data_status import with_status
from workers.broker.result import clean
from workers.queue_service.actor import Actor
from workers.queue_service.verdict import shown

#: Characters of a reason that are kept.
MAX_REASON = 500


def reason_of(actor: Actor, reason: str) -> str:
    """The job's `failedReason`: `cancelled by ann: a mistake`."""
    said = clean(" ".join(reason.split()), MAX_REASON)
    return f"cancelled by {shown(actor.name)}" + (f": {said}" if said else "")


def texts(data: str) -> tuple[str, str]:
    """The data of a cancelled job once it has ended, and while it is asked to stop; empty where they stay as they are.
    Node's clients show `data.status` before BullMQ's state.
    """
    return with_status(data, TaskStatus.FAILED) or "", with_status(data, TaskStatus.CANCELING, add=True) or ""

"""Node's words for the state of a task, and what they have to do with BullMQ's.

A job's data may carry a status, which Node's producers set once and never change; Node shows it before BullMQ's state.
"""

from __future__ import annotations

from enum import StrEnum


class TaskStatus(StrEnum):
    """What `data.status` says. Node's clients read it with the first letter upper, its own writes are lower."""

    CANCELING = "Canceling"
    COMPLETED = "Completed"
    FAILED = "Failed"
    PAUSED = "Paused"
    RUNNING = "Running"
    SCHEDULED = "Scheduled"
    SUGGESTED = "Suggested"

    @property
    def asks_to_stop(self) -> bool:
        """Whether a task that says so is to be cancelled: Node's way to tell a worker. Putting it back among the
        suggestions is how its users cancel what has not begun."""
        return self in (TaskStatus.CANCELING, TaskStatus.SUGGESTED)

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in (TaskStatus.COMPLETED, TaskStatus.FAILED)


_BY_NAME = {each.lower(): each for each in TaskStatus}
_BY_STATE = {
    "waiting": TaskStatus.SCHEDULED,
    "wait": TaskStatus.SCHEDULED,
    "prioritized": TaskStatus.SCHEDULED,
    "delayed": TaskStatus.SCHEDULED,
    "waiting-children": TaskStatus.RUNNING,
    "paused": TaskStatus.PAUSED,
    "active": TaskStatus.RUNNING,
    "completed": TaskStatus.COMPLETED,
    "failed": TaskStatus.FAILED,
}


def status_of(said: object) -> TaskStatus | None:
    """The status that `data.status` means, in whatever case; None: it is none of Node's."""
    return _BY_NAME.get(said.lower()) if isinstance(said, str) else None


def status_of_state(state: str) -> TaskStatus | None:
    """What BullMQ's state of a job means for its task; None: there is no such job ("unknown") or no such state.

    A job that waits for its children has run already. One that waits in a paused queue is paused only in the words of
    BullMQ before version 5, which has a list of such jobs.
    """
    return _BY_STATE.get(state)


def node_answer(said: object, state: str | None) -> str | None:
    """What Node's `getTaskStatuses` answers: the data's own status before BullMQ's state, the first letter upper and
    the rest lower ("Waiting-children", "Prioritized"); None: no such job.

    Args:
        said: `data.status`.
        state: as BullMQ's getState gives it. None or "unknown": there is no such job.
    """
    if state is None or state == "unknown":
        return None
    shown = said if isinstance(said, str) and said else state
    return shown[:1].upper() + shown[1:].lower()

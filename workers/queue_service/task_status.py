"""Who may change a task's status, and what that means. Pure.

Node's rules (`ManagedQueue.changeTaskStatus`, `getTaskOwner`) without what keeps them from working there: the owner of
a run or a swarm is found where its producers write it, a task whose id is digits is found under `task-<digits>`, and
the names that Node's endpoints use for queues are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.ids import job_id
from tasks.status import TaskStatus, status_of
from workers.broker.data_status import with_status
from workers.queue_service.errors import InvalidRequestError, RefusedError, UnknownJobError

#: Where the owner of a task stands, the first that is there: at the top, as Node looks; then where it is in the
#: requests of runs and swarms, which Node misses.
OWNERS = (
    ("userId",),
    ("startedById",),
    ("userData", "id"),
    ("input", "userData", "id"),
    ("context", "userData", "id"),
    ("input", "startedById"),
)
#: What Node's endpoints call the queues.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "swarm": ("llm-completion", "swarm-execution"),
    "run": ("run-start",),
    "sandbox": ("sandbox-execution",),
    "llm": ("llm-completion",),
    "email": ("email-send",),
    "push": ("push-notification",),
    "sms": ("sms-message",),
    "notification": ("notification-create",),
    "export": ("export-user-data",),
    "import": ("import-user-data",),
}
#: With these a task that is gone is as it should be.
_OVER = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SUGGESTED})


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What came of a change of a task's status."""

    task_id: str
    status: TaskStatus
    outcome: Literal["written", "ended", "requested", "gone"]
    """written: its data say so. ended: it waited, and is failed now, since the status asks to stop. requested: a worker
    of ours runs it, and was asked to stop. gone: there is no such task any more, which is all that was wanted."""
    queue: str | None = None
    job_id: str | None = None
    held_by: str | None = None
    """The worker that runs it. `written` and this: it is none of ours, and will not stop."""


def status_named(said: str) -> TaskStatus:
    """The status, in whatever case it is written.

    Raises:
        InvalidRequestError: it is none of Node's.
    """
    if (status := status_of(said)) is not None:
        return status
    raise InvalidRequestError("status", f"expected one of {', '.join(TaskStatus)}")


def queues_named(name: str) -> tuple[str, ...]:
    """The queues that a name means: Redis names as they are, and the short ones of Node's endpoints."""
    return ALIASES.get(name, (name,))


def job_ids(task_id: str) -> list[str]:
    """Under which ids a task's job may be: as Node or we add it, as a child of a flow, or as it is."""
    found = (job_id(task_id), job_id(task_id, child=True), task_id)
    return list(dict.fromkeys(each for each in found if each))


def owner_of(data: Any) -> str | None:
    """The id of the user whose task it is; None: it has no owner."""
    for path in OWNERS:
        value = data
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value:
            return value
    return None


def check_owner(data: Any, user_id: str, what: str) -> None:
    """Return if it is this user's.

    Raises:
        RefusedError: it is somebody else's or nobody's; which of them is not said.
    """
    if not user_id or owner_of(data) != user_id:
        raise RefusedError(f"{what} is not yours")


def missing(task_id: str, status: TaskStatus) -> StatusChange:
    """What a change means for a task that is not there.

    Raises:
        UnknownJobError: it was to go on.
    """
    if status in _OVER:
        return StatusChange(task_id, status, "gone")
    raise UnknownJobError(f"there is no task {task_id!r:.100}")


def stop_texts(data: str, status: TaskStatus) -> tuple[str, str]:
    """The data of a task that is to stop, once it has ended and while it is asked to. In lower case, as Node writes it;
    what is canceling has failed in the end."""
    ended = TaskStatus.FAILED if status is TaskStatus.CANCELING else status
    return written(data, ended), written(data, status)


def written(data: str, status: TaskStatus) -> str:
    """The data with this status, in lower case, as Node writes it; as they were where they are no object."""
    return with_status(data, status.lower(), add=True) or data

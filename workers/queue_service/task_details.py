"""All that is known of one task, as it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.status import TaskStatus, node_answer, status_of, status_of_state
from workers.broker.children_reader import Children, Kind
from workers.broker.job_view import JobView
from workers.queue_service.task_search import bullmq_state, status_said


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDetails:
    """A task, and the job that does it."""

    job: JobView
    logs: int
    """Lines of its log; see `Looking.logs`."""
    children: Mapping[Kind, Children]
    """Of each kind the first, see `Looking.children` for more."""
    others: tuple[JobView, ...] = ()
    """Jobs that the id means, too: in other queues, or of other tasks."""
    looked_at: int = 0
    """Recent jobs that were looked through, where no job had the id; see TaskSearch."""

    @property
    def status(self) -> TaskStatus | None:
        """How the task is: by BullMQ's state once it has ended, else by its data where they say that it is held or to
        end, which BullMQ does not know. None: its job is in no state.
        """
        state = status_of_state(bullmq_state(self.job.state))
        said = status_of(status_said(self.job))
        if said is None or state is None or state.is_final:
            return state
        return said if said.asks_to_stop or said is TaskStatus.PAUSED else state

    @property
    def node_status(self) -> str | None:
        """What Node's getTaskStatuses answers, see tasks.status.node_answer."""
        return node_answer(status_said(self.job), bullmq_state(self.job.state))

    def json(self) -> dict[str, Any]:
        """For output; times in ISO 8601."""
        job = self.job
        return {
            "id": job.task_id,
            "queueName": job.queue,
            "jobId": job.id,
            "status": self.status,
            "nodeStatus": self.node_status,
            "state": job.state,
            "progress": job.progress,
            "attempts": {"made": job.attempts_made, "started": job.attempts_started, "of": job.attempts},
            "failedReason": job.failed_reason,
            "stacktrace": list(job.stacktrace),
            "createdAt": _iso(job.added_ms),
            "dueAt": _iso(job.due_ms),
            "processedAt": _iso(job.processed_ms),
            "finishedAt": _iso(job.finished_ms),
            "traceId": job.trace_id,
            "logs": self.logs,
            "parent": None if job.parent is None else job.parent.json(),
            "children": {kind: _children(each) for kind, each in self.children.items()},
            "others": [{"queueName": other.queue, "jobId": other.id, "state": other.state} for other in self.others],
            "lookedThrough": self.looked_at,
            "job": job.json(),
        }


def _children(found: Children) -> dict[str, Any]:
    return {"total": found.total, "items": [child.json() for child in found.items], "cursor": found.cursor}


def _iso(at_ms: int | None) -> str | None:
    """None also for what no calendar has."""
    try:
        when = None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return None if when is None else when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The port behind `ctx.add` and what follows failures: the queue service's `add`, with errors as jobs know them."""

from __future__ import annotations

from tasks.base import Task
from tasks.priority import Urgency
from workers.broker.hold import Parent
from workers.contract import PermanentError, TransientError
from workers.queue_service import QueueServiceError
from workers.queue_service.add_options import AddOptions
from workers.queue_service.adding import Adding
from workers.queue_service.routes import QUOTED


class TaskAdder:
    """Adds jobs for tasks.

    Args:
        adding: adds them.
    """

    def __init__(self, adding: Adding) -> None:
        self._adding = adding

    async def __call__(
        self,
        task: Task,
        parent: Parent | None = None,
        *,
        as_job: str | None = None,
        priority: int | None = None,
        urgency: Urgency | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """Add a job for the task and return its id. While Redis has a job of that id, finished ones included, nothing
        is added: a run that is repeated adds its children once.

        Args:
            parent: the job that it is a child of.
            as_job: the job's id. None: see `tasks.ids.job_id_for`.
            priority: BullMQ's; 0: none. None: by the rule of its task type (`task.priority`).
            urgency: for the generic rule. None: what the task says.
            delay_s: how long it waits before it can start, seconds.

        Raises:
            TransientError: Redis did not take it, or did not say so, or the queue is full; it may be added again.
            PermanentError: no queue carries its type, it is no JSON or too large or too deep for its queue, an argument
                is not what it should be, or BullMQ refuses it.
        """
        if not isinstance(task, Task):
            raise PermanentError(f"a task is added, not a {type(task).__name__[:QUOTED]}")
        try:
            options = AddOptions(job_id=as_job, priority=priority, urgency=urgency, delay_ms=_ms(delay_s))
            return (await self._adding.add(task, options, parent=parent)).job_id
        except QueueServiceError as error:
            if error.retry_after_s is None:
                raise PermanentError(str(error)) from error
            raise TransientError(str(error), retry_after_s=error.retry_after_s) from error


def _ms(delay_s: float) -> int | None:
    """As the options have it; None: none."""
    try:
        return round(delay_s * 1000) or None
    except (TypeError, ValueError, OverflowError):
        raise PermanentError(f"delay_s: expected a number of seconds, found a {type(delay_s).__name__[:QUOTED]}") from None

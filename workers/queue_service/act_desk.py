"""What all acts begin and end with: is the request in order, may this actor, was it told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from workers.broker.act_runner import Answer, StoredJob
from workers.broker.job_acts import JobActs
from workers.broker.json_text import UnreadableError, read
from workers.broker.queue_acts import QueueActs
from workers.queue_service import outage
from workers.queue_service.actor import Actor
from workers.queue_service.audit import Auditor
from workers.queue_service.errors import InvalidRequestError, RefusedError, UnknownJobError
from workers.queue_service.queue_names import QueueNames, check_name
from workers.queue_service.report import ActReport
from workers.queue_service.task_status import check_owner
from workers.queue_service.verdict import error_for, report_of, shown

#: Characters of the longest id.
MAX_ID = 1024
#: Highest priority in BullMQ (Job.PRIORITY_LIMIT).
MAX_PRIORITY = 2**21
#: The longest delay, ms: a year. BullMQ's delayed scores lose their order far above it.
MAX_DELAY_MS = 365 * 86_400_000


class ActDesk:
    """Shared by the acts of one queue service.

    Args:
        names: which queues there are.
    """

    def __init__(self, jobs: JobActs, queues: QueueActs, auditor: Auditor, names: QueueNames) -> None:
        self.jobs = jobs
        self.queues = queues
        self.auditor = auditor
        self.names = names

    async def one(
        self,
        action: str,
        queue: str,
        job_id: str,
        actor: Actor,
        act: Callable[[], Awaitable[Sequence[Answer]]],
        *,
        to: str | None = None,
        **arguments: Any,
    ) -> ActReport:
        """An act on one job: checked, done, told. Raises what the acts of `Acting` raise."""

        async def work() -> ActReport:
            check_name(queue)
            check_job_id(job_id)
            if to is not None:
                await self.names.check(to)
            await self.check_own(queue, job_id, actor)
            with outage.told(queue):
                (answer,) = await act()
            if answer.word == "gone":
                await self.names.check(queue)
            if (error := error_for(action, queue, answer)) is not None:
                raise error
            return report_of(action, queue, [answer])

        return await self.auditor.told(action, queue, job_id, actor, work, to=to, **arguments)

    async def check_own(self, queue: str, job_id: str, actor: Actor) -> None:
        """Return if the actor may act on this job: an operator on any, a user on his own.

        Raises:
            RefusedError, UnknownJobError, QueueUnavailableError
        """
        if actor.user_id is not None:
            check_owner(parsed(await self.stored(queue, job_id)), actor.user_id, f"job {shown(job_id)}")

    async def stored(self, queue: str, job_id: str) -> StoredJob:
        """The job's row.

        Raises:
            UnknownJobError, UnknownQueueError, QueueUnavailableError
        """
        with outage.told(queue, changes=False):
            found = await self.jobs.find([queue], [job_id])
        if not found:
            await self.names.check(queue)
            raise UnknownJobError(f"there is no job {shown(job_id)} in queue {queue}", queue=queue)
        return found[0]


def parsed(job: StoredJob) -> Any:
    """Its data; None where they can't be read."""
    try:
        return read(job.data, "data")
    except UnreadableError:
        return None


def check_operator(actor: Actor, queue: str) -> None:
    """Return if the actor may act on more than jobs of his own.

    Raises:
        RefusedError
    """
    if actor.user_id is not None:
        raise RefusedError("only operators may act on a queue as a whole", queue=queue)


def check_job_id(job_id: str) -> None:
    """Return if a job could have this id.

    Raises:
        InvalidRequestError
    """
    if not isinstance(job_id, str) or not 0 < len(job_id) <= MAX_ID:
        raise InvalidRequestError("job_id", f"expected 1 to {MAX_ID:,} characters")


def check_whole(field: str, value: int, most: int) -> None:
    """Return if it is a whole number from 0 to `most`.

    Raises:
        InvalidRequestError
    """
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidRequestError(field, f"expected a whole number from 0 to {most:,}, found {shown(repr(value))}")

"""Changes the status of a task for its owner: Node's `changeTaskStatus`, which says of itself that it can't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.ids import task_id_of
from tasks.status import TaskStatus
from workers.broker.act_runner import TRIES, Answer, StoredJob
from workers.queue_service import cancellation, outage, task_status
from workers.queue_service.act_desk import MAX_ID, ActDesk, parsed
from workers.queue_service.actor import Actor
from workers.queue_service.errors import InvalidRequestError, RefusedError
from workers.queue_service.queue_names import check_name
from workers.queue_service.report import ActReport
from workers.queue_service.task_search import TaskSearch
from workers.queue_service.task_status import StatusChange
from workers.queue_service.verdict import error_for, shown

#: A status may be written whatever the state.
ANY_STATE = (
    *("waiting", "prioritized", "delayed", "waiting-children", "active", "completed", "failed"),
    "unknown",
)


class StatusChanging:
    """Part of Acting, see there.

    Args:
        search: finds tasks whose jobs have ids that BullMQ counts.
    """

    def __init__(self, desk: ActDesk, search: TaskSearch) -> None:
        self._desk = desk
        self._search = search

    async def change(self, task_id: str, status: str, user_id: str, *, queue: str | None, actor: Actor) -> StatusChange:
        """See Acting."""
        changes: list[StatusChange] = []

        async def work() -> ActReport:
            if not isinstance(task_id, str) or not 0 < len(task_id) <= MAX_ID:
                raise InvalidRequestError("task_id", f"expected 1 to {MAX_ID:,} characters")
            wanted = task_status.status_named(status)
            names = await self._meant(queue)
            change = await self._changed(task_id, wanted, user_id, names, actor)
            changes.append(change)
            asked = {change.job_id or "": change.held_by or "?"} if change.outcome == "requested" else {}
            return ActReport(
                action="change-status",
                queue=change.queue or "",
                matched=int(change.job_id is not None),
                done=int(change.job_id is not None and not asked),
                requested=asked,
                job_ids=() if change.job_id is None else (change.job_id,),
            )

        told = self._desk.auditor.told
        await told("change-status", queue or "", task_id, actor, work, status=str(status), user_id=user_id)
        return changes[0]

    async def _changed(
        self, task_id: str, status: TaskStatus, user_id: str, queues: Sequence[str], actor: Actor
    ) -> StatusChange:
        """Read, decide, write if what was read still stands; else once more, since others write too."""
        for _ in range(TRIES):
            job = await self._job_of(task_id, queues)
            if job is None:
                return task_status.missing(task_id, status)
            task_status.check_owner(parsed(job), user_id, f"task {shown(task_id)}")
            change, answer = await self._written(
                StatusChange(task_id, status, "written", job.queue, job.id), job, actor
            )
            if answer.word in ("changed", "gone"):
                continue
            if (error := error_for("change-status", job.queue, answer)) is not None:
                raise error
            return change
        raise RefusedError(f"task {shown(task_id)} is written by others all the time: try again")

    async def _job_of(self, task_id: str, queues: Sequence[str]) -> StoredJob | None:
        """The task's job. One that only has the id, and is of another task, is not it: BullMQ counts from 1."""
        with outage.told(", ".join(queues), changes=False):
            found = await self._desk.jobs.find(queues, task_status.job_ids(task_id))
            if not found:
                hits = (await self._search.find(task_id, queues)).jobs
                found = await self._desk.jobs.find([hits[0].queue], [hits[0].id]) if hits else []
        mine = [job for job in found if task_id_of(job.id, parsed(job)) == task_id]
        named = [job for job in found if job.id == task_id and not task_id.isdecimal()]
        return next(iter(mine or named), None)

    async def _meant(self, queue: str | None) -> Sequence[str]:
        names = self._desk.names
        if queue is None:
            return await names.all()
        check_name(queue)
        return (queue,) if queue in names.seen else task_status.queues_named(queue)

    async def _written(self, change: StatusChange, job: StoredJob, actor: Actor) -> tuple[StatusChange, Answer]:
        jobs, status = self._desk.jobs, change.status
        with outage.told(job.queue):
            if status.asks_to_stop:
                why = cancellation.reason_of(actor, f"its status was set to {status}")
                texts = task_status.stop_texts(job.data, status)
                (answer,) = await jobs.cancel(
                    job.queue, [job.id], why, texts=lambda data: texts, anyhow=True, expected=job.data
                )
                if answer.word not in ("not", "schedule"):
                    return _stopped(change, answer), answer
            new = task_status.written(job.data, status)
            return change, await jobs.change_data(job.queue, job.id, job.data, new, ANY_STATE)


def _stopped(change: StatusChange, answer: Answer) -> StatusChange:
    if answer.word == "asked":
        return replace(change, outcome="requested", held_by=answer.detail or None)
    if answer.word == "written":
        return replace(change, held_by=answer.detail or "another's worker")
    return replace(change, outcome="ended")

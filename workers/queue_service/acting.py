"""Acts on queues and jobs. Each is one step in Redis, or a bounded number of them, and is told to the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from config.schema import FleetConfig
from tasks import TASKS
from tasks.base import Task
from workers.broker.act_runner import TRIES, Answer, StoredJob
from workers.broker.backend import now_ms
from workers.broker.job_acts import JobActs
from workers.broker.job_reader import JobReader
from workers.broker.json_text import UnreadableError, read
from workers.broker.queue_acts import QueueActs
from workers.queue_service import cancellation, outage
from workers.queue_service.act_desk import (
    MAX_DELAY_MS,
    MAX_PRIORITY,
    ActDesk,
    check_operator,
    check_whole,
    parsed,
)
from workers.queue_service.actor import Actor
from workers.queue_service.audit import Audit, Auditor, log_act
from workers.queue_service.bulk import Bulk, Pages
from workers.queue_service.cleaning import MAX_DRAINED, Cleaning
from workers.queue_service.data_check import DataCheck
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.filter import JobFilter
from workers.queue_service.queue_names import QueueNames
from workers.queue_service.reach import Reach
from workers.queue_service.report import ActReport
from workers.queue_service.status_change import StatusChanging
from workers.queue_service.task_search import TaskSearch
from workers.queue_service.task_status import StatusChange

#: The states in which a job's data may be replaced: a run goes on with those it began with.
_DATA_STATES = ("waiting", "prioritized", "delayed", "waiting-children", "failed", "completed")


class Acting:
    """Acts on the queues of one prefix. Belongs to one event loop; connects to nothing until it is asked.

    Every act raises, besides what it says itself,

    - InvalidRequestError: what was asked is wrong in itself; names the field;
    - UnknownQueueError, UnknownJobError: there is no such thing;
    - RefusedError: the job is not in a state for it now, which is named, or the actor may not;
    - QueueUnavailableError: Redis does not answer; says what is known of what was to be changed.

    An actor with a `user_id` may act on jobs of his own; one without is an operator.

    Args:
        config: the queues, and how long Redis may take.
        client: commands of an Endpoint; closed by whoever made it.
        pages: where bulk acts look through jobs.
        names: which queues there are; of Looking, where there is one. None: its own.
        types: the models of what `data.type` names.
        audit: told every act, refused ones too; must not block. Defaults to a line in the log.
        clock: ms since the epoch.
    """

    def __init__(
        self,
        config: FleetConfig,
        client: Any,
        pages: Pages,
        *,
        names: QueueNames | None = None,
        types: Mapping[str, type[Task]] = TASKS,
        audit: Audit = log_act,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        timeout_s, prefix, entries = config.redis.command_timeout, config.redis.prefix, config.queues
        kept = {name: entry.keep.failed.to_bullmq() for name, entry in entries.items()}
        keep_failed = lambda queue: kept.get(queue, False)  # noqa: E731 - of one expression
        self._jobs = JobActs(client, prefix, timeout_s=timeout_s, keep_failed=keep_failed, clock=clock)
        queues = QueueActs(client, prefix, timeout_s=timeout_s, clock=clock)
        names = names or QueueNames(client, prefix, tuple(entries), Reach(timeout_s))
        self._desk = ActDesk(self._jobs, queues, Auditor(audit, clock), names)
        self._data = DataCheck(entries, types)
        self._cleaning = Cleaning(self._desk, clock)
        self._bulk = Bulk(self._desk, pages)
        self._status = StatusChanging(self._desk, TaskSearch(JobReader(client, prefix)))

    # ------------------------------------------------------------------ the queue

    async def pause_queue(self, queue: str, *, actor: Actor) -> ActReport:
        """Start no job of this queue, in no worker, Node's included; running jobs run on. `done` is 0 where it was
        paused already. It is then not resumed by `on_global_pause`.
        """
        return await self._set_paused("pause", queue, lambda name: self._desk.queues.pause(name, by=actor.name), actor)

    async def resume_queue(self, queue: str, *, actor: Actor) -> ActReport:
        """The opposite; also after Node's shutdown, which leaves its queues paused."""
        return await self._set_paused("resume", queue, self._desk.queues.resume, actor)

    async def drain(
        self, queue: str, *, delayed: bool = False, limit: int = MAX_DRAINED, dry_run: bool = False, actor: Actor
    ) -> ActReport:
        """Remove the jobs that wait, but for the next ones of schedules. Listeners hear `cleaned`.

        Args:
            delayed: those that are not due, too.
            limit: how many at most.
            dry_run: only count them.
        """
        return await self._cleaning.drain(queue, delayed=delayed, limit=limit, dry_run=dry_run, actor=actor)

    async def clean(
        self,
        queue: str,
        state: str,
        *,
        older_s: float = 0,
        limit: int = 1000,
        dry_run: bool = False,
        actor: Actor,
    ) -> ActReport:
        """Remove jobs of one state; of active ones those alone that no worker has. Listeners hear `cleaned`.

        Args:
            state: completed, failed, delayed, prioritized, waiting, paused or active.
            older_s: those that were finished, else started, else added so long ago.
            limit: how many at most, up to 10,000.
            dry_run: only count them.
        """
        return await self._cleaning.clean(queue, state, older_s=older_s, limit=limit, dry_run=dry_run, actor=actor)

    # ------------------------------------------------------------------- one job

    async def retry(self, queue: str, job_id: str, *, reset_attempts: bool = False, actor: Actor) -> ActReport:
        """Let a failed or completed job wait once more.

        Args:
            reset_attempts: it has all its attempts again, as if it had made none.
        """
        act = lambda: self._jobs.retry(queue, [job_id], anew=reset_attempts)  # noqa: E731
        return await self._desk.one("retry", queue, job_id, actor, act, reset_attempts=reset_attempts or None)

    async def promote(self, queue: str, job_id: str, *, actor: Actor) -> ActReport:
        """Let a delayed job start now."""
        return await self._desk.one("promote", queue, job_id, actor, lambda: self._jobs.promote(queue, [job_id]))

    async def remove(self, queue: str, job_id: str, *, children: bool = True, actor: Actor) -> ActReport:
        """Remove a job that no worker has.

        Args:
            children: its children with it, as in Node. A parent that waits for it alone goes on without it.
        """
        act = lambda: self._jobs.remove(queue, [job_id], children=children)  # noqa: E731
        return await self._desk.one("remove", queue, job_id, actor, act, children=children)

    async def cancel(self, queue: str, job_id: str, *, reason: str = "", actor: Actor) -> ActReport:
        """End a job for good, as failed with `cancelled by <actor>: <reason>`. One that waits, or whose worker is gone,
        ends at once. One that runs is asked to stop, and is in `requested`: its worker sees it within two seconds, and
        cancels the run ten seconds later. One that a worker other than ours runs is refused.
        """
        why = cancellation.reason_of(actor, reason)
        act = lambda: self._jobs.cancel(queue, [job_id], why, texts=cancellation.texts)  # noqa: E731
        return await self._desk.one("cancel", queue, job_id, actor, act, reason=reason or None)

    async def change_priority(
        self, queue: str, job_id: str, priority: int, *, lifo: bool = False, actor: Actor
    ) -> ActReport:
        """Give a job that waits another place.

        Args:
            priority: the lowest comes first; 0: before all that have one.
            lifo: before others of the same.
        """

        async def act() -> Sequence[Answer]:
            check_whole("priority", priority, MAX_PRIORITY)
            return await self._jobs.change_priority(queue, [job_id], priority, lifo=lifo)

        told = self._desk.one
        return await told("change-priority", queue, job_id, actor, act, priority=priority, lifo=lifo or None)

    async def change_delay(self, queue: str, job_id: str, delay_ms: int, *, actor: Actor) -> ActReport:
        """Let a delayed job start so long from now, a year at most."""

        async def act() -> Sequence[Answer]:
            check_whole("delay_ms", delay_ms, MAX_DELAY_MS)
            return await self._jobs.change_delay(queue, [job_id], delay_ms)

        return await self._desk.one("change-delay", queue, job_id, actor, act, delay_ms=delay_ms)

    async def change_data(self, queue: str, job_id: str, data: Any, *, expected: Any = None, actor: Actor) -> ActReport:
        """Replace the data of a job that does not run.

        Args:
            data: as its task type has them.
            expected: the data that were seen, their text or their value: other ones are left alone. None: whatever.
        """

        async def act() -> Sequence[Answer]:
            for _ in range(TRIES):
                job = await self._desk.stored(queue, job_id)
                if expected is not None and not _is(job, expected):
                    break
                text = self._data.text(queue, data, before=parsed(job))
                answer = await self._jobs.change_data(queue, job_id, job.data, text, _DATA_STATES)
                if answer.word != "changed":
                    return [answer]
            return [Answer(job_id, "changed")]

        said = {"expected": "given" if expected is not None else None}
        return await self._desk.one("change-data", queue, job_id, actor, act, **said)

    async def move(self, queue: str, job_id: str, to: str, *, actor: Actor) -> ActReport:
        """Take a job that waits or has failed to another queue, with its id, data, options, attempts and logs. Where
        that has a job of its id, nothing is moved. Jobs of flows and the next ones of schedules stay.
        """

        async def act() -> Sequence[Answer]:
            if to == queue:
                raise InvalidRequestError("to", "expected another queue", queue=queue)
            return await self._jobs.move(queue, [job_id], to)

        return await self._desk.one("move", queue, job_id, actor, act, to=to)

    async def replay(self, queue: str, job_id: str, *, data: Any = None, actor: Actor) -> ActReport:
        """Add a job like one that has ended, as `<id>-replay-1`, `-replay-2`, …; the report has its id.

        Args:
            data: its own, as its task type has them. None: those of the old one.
        """

        async def act() -> Sequence[Answer]:
            text = None
            if data is not None:
                text = self._data.text(queue, data, before=parsed(await self._desk.stored(queue, job_id)))
            return await self._jobs.replay(queue, [job_id], data=text)

        said = {"data": "changed" if data is not None else None}
        return await self._desk.one("replay", queue, job_id, actor, act, **said)

    # -------------------------------------------------------------- many, and tasks

    async def bulk(
        self,
        action: str,
        queue: str,
        filter: JobFilter,  # noqa: A002 - what it is called everywhere
        *,
        to: str | None = None,
        dry_run: bool = True,
        limit: int = 1000,
        actor: Actor,
    ) -> ActReport:
        """Act on each job that is meant: retry, promote, cancel, remove, move or replay. Where the filter names no
        state, those are meant that the act is for; of retry and replay the failed ones alone.

        Args:
            to: the other queue of move.
            dry_run: only find them.
            limit: how many at most, up to 10,000.
        """
        return await self._bulk.act(action, queue, filter, to=to, dry_run=dry_run, limit=limit, actor=actor)

    async def change_task_status(
        self, task_id: str, status: str, user_id: str, *, queue: str | None = None, actor: Actor
    ) -> StatusChange:
        """Change what a task's data say of its status, for its owner, and stop it where that asks to
        (`TaskStatus.asks_to_stop`). A task that is gone and was to be over is a success.

        Args:
            status: of TaskStatus, in whatever case.
            user_id: Node's id of the user who asks.
            queue: its Redis name, or Node's short one. None: in any.
        """
        return await self._status.change(task_id, status, user_id, queue=queue, actor=actor)

    async def _set_paused(self, action: str, queue: str, act: Callable[[str], Any], actor: Actor) -> ActReport:
        async def work() -> ActReport:
            check_operator(actor, queue)
            await self._desk.names.check(queue)
            with outage.told(queue):
                was_so = await act(queue)
            return ActReport(action=action, queue=queue, matched=1, done=0 if was_so else 1)

        return await self._desk.auditor.told(action, queue, "", actor, work)


def _is(job: StoredJob, expected: Any) -> bool:
    """Whether its data are what was seen."""
    if expected == job.data:
        return True
    try:
        return bool(read(job.data, "data") == expected)
    except UnreadableError:
        return False

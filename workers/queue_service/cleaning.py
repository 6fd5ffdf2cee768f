"""Draining and cleaning: many jobs are removed by state and age, a bounded number in one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from workers.broker.act_runner import Answer
from workers.broker.backend import now_ms
from workers.broker.numbers import MAX_SAFE
from workers.broker.queue_acts import PAGE, Place
from workers.broker.result import message
from workers.queue_service import outage
from workers.queue_service.act_desk import ActDesk, check_operator, check_whole
from workers.queue_service.actor import Actor
from workers.queue_service.errors import InvalidRequestError, QueueUnavailableError
from workers.queue_service.report import ActReport
from workers.queue_service.verdict import NAMED, report_of, shown

#: Jobs that one request removes at most: of clean, of drain.
MAX_CLEANED, MAX_DRAINED = 10_000, 100_000
#: The longest age, seconds: a century.
MAX_AGE_S = 100 * 365 * 86_400

#: Where the jobs of a state are; what clean takes.
PLACES: Mapping[str, tuple[Place, ...]] = {
    "completed": ("completed",),
    "failed": ("failed",),
    "delayed": ("delayed",),
    "prioritized": ("prioritized",),
    "waiting": ("wait", "paused"),
    "wait": ("wait", "paused"),
    "paused": ("paused",),
    "active": ("active",),
}
_FINISHED = ("completed", "failed")


class Cleaning:
    """Part of Acting, see there.

    Args:
        clock: ms since the epoch.
    """

    def __init__(self, desk: ActDesk, clock: Callable[[], int] = now_ms) -> None:
        self._desk = desk
        self._clock = clock

    async def drain(self, queue: str, *, delayed: bool, limit: int, dry_run: bool, actor: Actor) -> ActReport:
        """See Acting. In pages: BullMQ's own drain removes everything in one script, during which Redis does nothing
        else, and may take the next job from a schedule.
        """
        places: tuple[Place, ...] = ("wait", "paused", "prioritized", *(("delayed",) if delayed else ()))

        async def work() -> ActReport:
            check_operator(actor, queue)
            check_whole("limit", limit, MAX_DRAINED)
            await self._desk.names.check(queue)
            if dry_run:
                return await self._counted("drain", queue, places, limit, None)
            return await self._in_pages("drain", queue, places, limit, MAX_SAFE)

        return await self._desk.auditor.told("drain", queue, "", actor, work, delayed=delayed, limit=limit)

    async def clean(
        self, queue: str, state: str, *, older_s: float, limit: int, dry_run: bool, actor: Actor
    ) -> ActReport:
        """See Acting."""

        async def work() -> ActReport:
            check_operator(actor, queue)
            if state not in PLACES:
                raise InvalidRequestError("state", f"expected {', '.join(PLACES)}, found {shown(str(state))}")
            check_whole("limit", limit, MAX_CLEANED)
            if not 0 <= older_s <= MAX_AGE_S:
                raise InvalidRequestError("older", f"expected seconds from 0 to {MAX_AGE_S:,}")
            await self._desk.names.check(queue)
            return await self._cleaned(queue, state, older_s, limit, dry_run)

        arguments = {"state": state, "older_s": older_s, "limit": limit}
        return await self._desk.auditor.told("clean", queue, "", actor, work, **arguments)

    async def _cleaned(self, queue: str, state: str, older_s: float, limit: int, dry_run: bool) -> ActReport:
        places, before = PLACES[state], self._clock() - round(older_s * 1000)
        if state in _FINISHED:
            if dry_run:
                return await self._counted("clean", queue, places, limit, before)
            return await self._in_pages("clean", queue, places, limit, before)
        if older_s or state == "active":  # here BullMQ's script looks at the first jobs alone, whatever their age
            return await self._one_by_one(queue, places, limit, before, dry_run)
        if dry_run:
            return await self._counted("clean", queue, places, limit, None)
        return await self._in_pages("clean", queue, places, limit, MAX_SAFE)

    async def _counted(
        self, action: str, queue: str, places: Sequence[Place], limit: int, before_ms: int | None
    ) -> ActReport:
        queues = self._desk.queues
        with outage.told(queue, changes=False):
            found = await queues.count(queue, places, before_ms)
            kept = 0 if before_ms is not None else await queues.scheduled(queue, places)
        matched = max(0, found - kept)
        more = matched > limit
        return ActReport(action=action, queue=queue, matched=min(matched, limit), done=0, dry_run=True, more=more)

    async def _in_pages(
        self, action: str, queue: str, places: Sequence[Place], limit: int, before_ms: int
    ) -> ActReport:
        removed, named = 0, list[str]()
        for place in places:
            more = True
            while more and removed < limit:
                size = min(PAGE, limit - removed)
                page = await self._page(queue, place, size, before_ms, removed)
                removed += len(page)
                named += page[: NAMED - len(named)]
                more = len(page) == size
        left = await self._counted(action, queue, places, 1, None if before_ms == MAX_SAFE else before_ms)
        return ActReport(
            action=action,
            queue=queue,
            matched=removed,
            done=removed,
            job_ids=tuple(named),
            more=removed >= limit and left.matched > 0,
        )

    async def _page(self, queue: str, place: Place, size: int, before_ms: int, removed: int) -> list[str]:
        try:
            until = None if before_ms == MAX_SAFE else before_ms
            if not await self._desk.queues.count(queue, [place], until):  # else listeners would hear of nothing
                return []
            return await self._desk.queues.clean(queue, place, size, before_ms)
        except Exception as error:
            known = f"{removed:,} jobs were removed, of up to {size:,} more it is not known"
            raise QueueUnavailableError(
                f"queue {queue}: Redis went away: {known} ({message(error, outage.MAX_DETAIL)})", queue=queue
            ) from error

    async def _one_by_one(
        self, queue: str, places: Sequence[Place], limit: int, before_ms: int, dry_run: bool
    ) -> ActReport:
        ids, more = list[str](), False
        for place in places:
            with outage.told(queue, changes=False):
                chosen = await self._desk.queues.chosen(queue, place, limit - len(ids), before_ms)
            ids += chosen.ids
            more = more or chosen.more
        if dry_run:
            named = tuple(ids[:NAMED])
            return ActReport(
                action="clean", queue=queue, matched=len(ids), done=0, dry_run=True, job_ids=named, more=more
            )
        answers: list[Answer] = []
        with outage.told(queue):
            answers = await self._desk.jobs.remove(queue, ids, children=False) if ids else []
            done = sum(answer.word == "ok" for answer in answers)
            if done:
                await self._desk.queues.tell_cleaned(queue, done)
        return report_of("clean", queue, answers, more=more)

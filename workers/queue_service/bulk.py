"""One act on all the jobs of a queue that a filter means. First they are found, then it is done to each that is still
in a state for it; a dry run only finds them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from workers.broker.act_runner import Answer
from workers.broker.job_view import JobView
from workers.queue_service import cancellation, outage
from workers.queue_service.act_desk import ActDesk, check_operator, check_whole
from workers.queue_service.actor import Actor
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.filter import JobFilter
from workers.queue_service.page import Page
from workers.queue_service.report import ActReport
from workers.queue_service.verdict import NAMED, report_of, shown

#: The acts, and the states of the jobs that each means where its filter names none.
STATES: Mapping[str, tuple[str, ...]] = {
    "retry": ("failed",),
    "promote": ("delayed",),
    "cancel": ("active", "waiting", "paused", "prioritized", "delayed", "waiting-children"),
    "remove": (),
    "move": ("waiting", "paused", "prioritized", "delayed", "failed"),
    "replay": ("failed",),
}
#: Jobs that one request acts on at most, and looks through.
MAX_JOBS, MAX_LOOKED = 10_000, 100_000
#: Jobs that one page of the search has.
PAGE = 500


class Pages(Protocol):
    """Where jobs are looked through: `Looking`."""

    async def jobs(
        self, queue: str, wanted: JobFilter, /, *, cursor: str | None = None, limit: int = 50
    ) -> Page[JobView]: ...


class Bulk:
    """Part of Acting, see there."""

    def __init__(self, desk: ActDesk, pages: Pages) -> None:
        self._desk = desk
        self._pages = pages

    async def act(
        self, action: str, queue: str, wanted: JobFilter, *, to: str | None, dry_run: bool, limit: int, actor: Actor
    ) -> ActReport:
        """See Acting."""

        async def work() -> ActReport:
            check_operator(actor, queue)
            act = self._act(action, queue, to, actor)
            check_whole("limit", limit, MAX_JOBS)
            await self._desk.names.check(queue)
            if to is not None:
                await self._desk.names.check(to)
            meant = wanted if wanted.states else replace(wanted, states=STATES[action])
            ids, more = await self._found(queue, meant, limit)
            if dry_run:
                named = tuple(ids[:NAMED])
                found = ActReport(action=action, queue=queue, matched=len(ids), done=0, job_ids=named, more=more)
                return replace(found, dry_run=True)
            with outage.told(queue):
                return report_of(action, queue, await act(ids), more=more)

        said = {"limit": limit, "to": to, "dry_run": dry_run}
        return await self._desk.auditor.told(action, queue, str(wanted), actor, work, **said)

    def _act(
        self, action: str, queue: str, to: str | None, actor: Actor
    ) -> Callable[[Sequence[str]], Awaitable[list[Answer]]]:
        if action not in STATES:
            raise InvalidRequestError("action", f"expected {', '.join(STATES)}, found {shown(str(action))}")
        if (action == "move") is (to is None) or to == queue:
            raise InvalidRequestError("to", "expected another queue for move, and nothing for other acts", queue=queue)
        jobs = self._desk.jobs
        match action:
            case "retry":
                return partial(jobs.retry, queue)
            case "promote":
                return partial(jobs.promote, queue)
            case "remove":
                return partial(jobs.remove, queue)
            case "cancel":
                why = cancellation.reason_of(actor, "")
                return partial(jobs.cancel, queue, reason=why, texts=cancellation.texts)
            case "replay":
                return partial(jobs.replay, queue)
        return partial(jobs.move, queue, to=str(to))

    async def _found(self, queue: str, wanted: JobFilter, limit: int) -> tuple[list[str], bool]:
        """The ids of those that are meant, and whether there may be more."""
        ids: dict[str, None] = {}
        cursor: str | None = None
        looked = 0
        while len(ids) <= limit and looked < MAX_LOOKED:
            page = await self._pages.jobs(queue, wanted, cursor=cursor, limit=PAGE)
            ids |= dict.fromkeys(view.id for view in page.items)
            looked += max(page.looked_at, len(page.items), 1)
            cursor = page.cursor
            if cursor is None:
                break
        return list(ids)[:limit], len(ids) > limit or cursor is not None

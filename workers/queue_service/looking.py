"""Looks at queues, jobs and tasks. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.broker.backend import now_ms
from workers.broker.children_reader import KINDS, Child, ChildrenReader
from workers.broker.endpoint import Endpoint
from workers.broker.job_reader import JobReader, Order
from workers.broker.job_view import JobView
from workers.broker.metrics_reader import MetricsReader
from workers.broker.stats import StatsReader
from workers.queue_service.errors import InvalidRequestError, UnknownJobError
from workers.queue_service.feed import Feed
from workers.queue_service.filter import ALL, JobFilter
from workers.queue_service.job_pages import JobPages
from workers.queue_service.page import MAX_ITEMS, Page
from workers.queue_service.queue_names import QueueNames, check_name
from workers.queue_service.queue_status import QueueStatus
from workers.queue_service.reach import Reach
from workers.queue_service.subscription import Subscription
from workers.queue_service.task_details import TaskDetails
from workers.queue_service.task_search import TaskAnswer, TaskSearch, check_id
from workers.queue_service.task_status import queues_named
from workers.queue_service.throughput import SPANS, QueueMetrics, Throughput

#: For how long one request looks through jobs, seconds, where the time of a look allows it.
LOOK_S = 1.0
#: Jobs of each ending by which a queue's latency and errors are told.
RECENT = 500
#: Minutes that BullMQ keeps counts of: two weeks.
MAX_MINUTES = 20_160
#: Children of each kind that a task's details show, and characters of an id that an error shows.
SHOWN_CHILDREN, SHOWN_ID = 100, 100


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some lines of a job's log."""

    lines: tuple[str, ...]
    total: int
    start: int
    """The number of the first one, from 0."""

    @property
    def next(self) -> int | None:
        """Where the next page starts; None: this was the last."""
        end = self.start + len(self.lines)
        return end if self.lines and end < self.total else None


class Looking:
    """Looks. Belongs to one event loop; constructs nothing that connects until it is asked.

    Every method but `events` raises QueueUnavailableError where Redis does not answer in time, UnknownQueueError where
    a queue that is named is neither configured nor in Redis, and InvalidRequestError where what is asked is wrong in
    itself.

    Args:
        endpoint: where Redis is.
        client: commands of that endpoint; closed by whoever made it.
        configured: the queues of the configuration, in their order.
        timeout_s: how long one look may take.
        rates: of queues with a rate limit in their settings, the jobs that may start in one span.
        clock: ms since the epoch, the clock of BullMQ's timestamps.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        client: Any,
        configured: Sequence[str],
        *,
        timeout_s: float,
        rates: Mapping[str, int] | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        prefix = endpoint.prefix
        self._reach = Reach(timeout_s)
        self._clock = clock
        self.names = QueueNames(client, prefix, configured, self._reach)
        """Which queues there are."""
        self._stats = StatsReader(client, prefix, rates=rates, clock=clock)
        self._reader = JobReader(client, prefix)
        self._beside = ChildrenReader(client, prefix)
        self._metrics = MetricsReader(client, prefix)
        self._pages = JobPages(self._reader, look_s=min(LOOK_S, timeout_s / 2), now_ms=clock)
        self._search = TaskSearch(self._reader)
        self.feed = Feed(endpoint.listening, client, prefix, reconnect=endpoint.reconnect)
        """What happens in the queues."""

    async def close(self) -> None:
        """End what listens to events. Legal at any time, also twice."""
        await self.feed.close()

    # ------------------------------------------------------------------ queues

    async def queues(self) -> list[str]:
        """The configured queues, then those that others have made in Redis; see QueueNames.all."""
        return list(await self.names.all())

    async def get_queue_status(self, queues: Sequence[str] | None = None) -> dict[str, QueueStatus]:
        """What is in the queues and who works on them, by name; one round trip for all. A queue that nobody has used is
        an empty one.

        Args:
            queues: None: the configured ones, and those that `queues` last found.
        """
        names = self.names.seen if queues is None else tuple(queues)
        for name in names:
            check_name(name)
        found = await self._reach(self._stats.read(names, workers=True))
        return {name: QueueStatus(stats, name in self.names.configured) for name, stats in found.items()}

    async def throughput(self, queue: str, minutes: int = 60) -> Throughput:
        """How many jobs have ended in each of the last minutes, and in the last 1, 5 and 60.

        Args:
            minutes: from 1 to two weeks.
        """
        if type(minutes) is not int or not 0 < minutes <= MAX_MINUTES:
            raise InvalidRequestError("minutes", f"expected a whole number from 1 to {MAX_MINUTES:,}")
        await self.names.check(queue)
        now = self._clock()
        back = max(minutes, SPANS[-1] + 1)
        look = self._metrics.endings(queue, minutes=back, spans_s=[span * 60 for span in SPANS], now_ms=now)
        return Throughput.of(queue, await self._reach(look, queue), now, minutes)

    async def metrics(self, queue: str) -> QueueMetrics:
        """How the queue does: throughput, latency and errors, by the last 500 jobs of each ending that are kept."""
        throughput = await self.throughput(queue)
        recent = await self._reach(self._metrics.recent(queue, RECENT), queue)
        status = (await self.get_queue_status([queue]))[queue]
        if status.stats.workers is None:
            return QueueMetrics.of(throughput, recent)
        idle = sum(worker.is_waiting for worker in status.workers)
        return QueueMetrics.of(throughput, recent, workers=len(status.workers), idle_workers=idle)

    async def priorities(self, queue: str) -> dict[int, int]:
        """How many jobs wait at each priority; see MetricsReader.priorities."""
        await self.names.check(queue)
        return await self._reach(self._metrics.priorities(queue), queue)

    def events(self, queues: Sequence[str], after: Mapping[str, str] | None = None) -> Subscription:
        """What happens in these queues, from now on or after these events; see Feed.listen.

        Raises:
            InvalidRequestError, RefusedError: see there.
        """
        for name in queues:
            check_name(name)
        return self.feed.listen(queues, after)

    # -------------------------------------------------------------------- jobs

    async def job(self, queue: str, job_id: str) -> JobView:
        """One job.

        Raises:
            UnknownJobError: there is no such job.
        """
        await self.names.check(queue)
        check_id(job_id)
        found = await self._reach(self._reader.job(queue, job_id), queue)
        if found is None:
            raise UnknownJobError(f"there is no job {_shown(job_id)} in queue {queue}", queue=queue)
        return found

    async def jobs(
        self,
        queue: str,
        filter: JobFilter = ALL,  # noqa: A002 - what it is
        *,
        cursor: str | None = None,
        limit: int = 50,
        order: Order = "newest",
    ) -> Page[JobView]:
        """Jobs of a queue, page by page; see JobPages.page. Of data and results of more than 16 KB the beginning is
        shown, and of a job whose data have more than 256 KB no condition on its data holds.

        Args:
            cursor: of the page before.
            limit: from 1 to 1000.
            order: `oldest` is the order in which they start, are due or have ended.
        """
        await self.names.check(queue)
        return await self._reach(self._pages.page(queue, filter, cursor=cursor, limit=limit, order=order), queue)

    async def logs(self, queue: str, job_id: str, *, start: int = 0, limit: int = 100) -> LogPage:
        """Lines of a job's log, the oldest first. Long lines are cut after 16 KB, and where all are long, there are
        fewer of them.

        Args:
            start: the first line, from 0.
            limit: from 1 to 1000.

        Raises:
            UnknownJobError: there is no such job.
        """
        for name, value, low, high in (("start", start, 0, 2**31), ("limit", limit, 1, MAX_ITEMS)):
            if type(value) is not int or not low <= value <= high:
                raise InvalidRequestError(name, f"expected a whole number from {low} to {high:,}")
        await self.names.check(queue)
        check_id(job_id)
        found = await self._reach(self._beside.log(queue, job_id, start=start, limit=limit), queue)
        if not found.total:
            await self.job(queue, job_id)
        return LogPage(found.lines, found.total, start)

    async def children(
        self, queue: str, job_id: str, kind: str, *, cursor: str | None = None, limit: int = 100
    ) -> Page[Child]:
        """Children of a job, page by page; see ChildrenReader.children.

        Args:
            kind: processed, unprocessed, ignored or failed.
            limit: from 1 to 1000, about: Redis may give some more.
        """
        if kind not in KINDS:
            raise InvalidRequestError("kind", f"expected {', '.join(KINDS)}")
        if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 20):
            raise InvalidRequestError("cursor", "is none that a page ended with: ask for the first page")
        if type(limit) is not int or not 0 < limit <= MAX_ITEMS:
            raise InvalidRequestError("limit", f"expected a whole number from 1 to {MAX_ITEMS:,}")
        await self.names.check(queue)
        check_id(job_id)
        look = self._beside.children(queue, job_id, kind, cursor=cursor or "0", limit=limit)
        found = await self._reach(look, queue)
        return Page(found.items, found.cursor, len(found.items))

    # ------------------------------------------------------------------- tasks

    async def get_task_details(self, task_or_job_id: str, queue: str | None = None) -> TaskDetails:
        """All that is known of a task, by its own id or its job's.

        Args:
            queue: where it is, also as Node's endpoints call it (`swarm`, `run`, …). None: in any.

        Raises:
            UnknownJobError: there is none; says how many recent jobs were looked through for it.
        """
        queues = await self._meant(queue)
        found = await self._reach(self._search.find(task_or_job_id, queues), queue)
        for hit in found.jobs:
            job = await self._reach(self._reader.job(hit.queue, hit.id), hit.queue)
            if job is None:  # gone in between
                continue
            beside = await self._reach(self._beside.beside(job.queue, job.id, limit=SHOWN_CHILDREN), job.queue)
            others = tuple(each for each in found.jobs if each is not hit)
            return TaskDetails(
                job=job, logs=beside.logs, children=beside.children, others=others, looked_at=found.looked_at
            )
        where = f"queue {queue}" if queue else f"{len(queues)} queues"
        seen = f", and {found.looked_at:,} recent jobs do not name it" if found.looked_at else ""
        raise UnknownJobError(f"there is no task or job {_shown(task_or_job_id)} in {where}{seen}", queue=queue)

    async def get_task_statuses(self, ids: Sequence[str], queue: str | None = None) -> list[TaskAnswer]:
        """What Node's getTaskStatuses answers for these tasks, in this order; see TaskSearch.answers.

        Args:
            ids: at most 1000.
            queue: as in get_task_details.
        """
        queues = await self._meant(queue)
        return await self._reach(self._search.answers(ids, queues), queue)

    async def _meant(self, queue: str | None) -> tuple[str, ...]:
        if queue is None:
            return await self.names.all()
        check_name(queue)
        names = (queue,) if queue in self.names.seen else queues_named(queue)
        for name in names if names == (queue,) else ():
            await self.names.check(name)
        return names


def _shown(text: str) -> str:
    shown = text if len(text) <= SHOWN_ID else f"{text[: SHOWN_ID - 1]}…"
    return ascii(shown)

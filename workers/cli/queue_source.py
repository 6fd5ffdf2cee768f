"""Who answers what the commands ask about queues. Answers are documents in the words of the HTTP API, whoever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeAlias

from workers.cli.wanted import Wanted
from workers.ops.api.told import told
from workers.queue_service.actor import Actor
from workers.queue_service.add_options import AddOptions
from workers.queue_service.added import Added
from workers.queue_service.adding import Adding
from workers.queue_service.errors import UnknownQueueError
from workers.queue_service.report import ActReport
from workers.queue_service.service import QueueService
from workers.queue_service.verdict import shown

Document: TypeAlias = dict[str, Any]


class Source(Protocol):
    """All methods raise QueueServiceError and nothing else."""

    async def queues(self, names: Sequence[str]) -> list[Document]:
        """Each of these queues at one moment, see QueueStatus.json. No names: all there are."""

    async def jobs(self, queue: str, wanted: Wanted, *, cursor: str | None, limit: int, oldest_first: bool) -> Document:
        """A page: `jobs`, see JobView.json, `cursor` and `lookedAt`."""

    async def job(self, queue: str, job_id: str) -> Document:
        """One job, see JobView.json."""

    async def task(self, task_id: str, queue: str | None) -> Document:
        """A task or job, see TaskDetails.json."""

    async def logs(self, queue: str, job_id: str, *, start: int, limit: int) -> Document:
        """A page of a job's log: `lines`, `total`, `start` and `next`."""

    async def act(self, action: str, queue: str, job_id: str, **arguments: Any) -> Document:
        """retry, promote, cancel, remove, move or replay one job. A report, see `told`."""

    async def act_on_queue(self, action: str, queue: str, **arguments: Any) -> Document:
        """pause, resume, drain or clean a queue. A report, see `told`."""

    async def bulk(
        self, action: str, queue: str, wanted: Wanted, *, to: str | None, dry_run: bool, limit: int
    ) -> Document:
        """One act on all the jobs of a queue that are meant. A report, see `told`."""

    async def add(self, task: Mapping[str, Any], options: AddOptions) -> Added:
        """Add a job for these data."""

    def events(self, queues: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[Document]]:
        """What happens in these queues from now on, see QueueEvent.json. No queues: in all there are."""


class DirectSource:
    """Asks Redis itself.

    Args:
        actor: on whose behalf.
    """

    def __init__(self, service: QueueService, adding: Adding, actor: Actor) -> None:
        self._service = service
        self._adding = adding
        self._actor = actor
        self._job_acts: Mapping[str, Callable[..., Awaitable[ActReport]]] = {
            "retry": service.retry,
            "promote": service.promote,
            "cancel": service.cancel,
            "remove": service.remove,
            "move": service.move,
            "replay": service.replay,
        }
        self._queue_acts: Mapping[str, Callable[..., Awaitable[ActReport]]] = {
            "pause": service.pause_queue,
            "resume": service.resume_queue,
            "drain": service.drain,
            "clean": service.clean,
        }

    async def queues(self, names: Sequence[str]) -> list[Document]:
        """See Source."""
        known = await self._service.queues()
        if missing := [name for name in names if name not in known]:
            raise UnknownQueueError(f"there is no queue {shown(missing[0])}, neither configured nor in Redis")
        found = await self._service.get_queue_status(list(names) or known)
        return [each.json() for each in found.values()]

    async def jobs(self, queue: str, wanted: Wanted, *, cursor: str | None, limit: int, oldest_first: bool) -> Document:
        """See Source."""
        order: Any = "oldest" if oldest_first else "newest"
        page = await self._service.jobs(queue, wanted.filter(), cursor=cursor, limit=limit, order=order)
        return {"jobs": [each.json() for each in page.items], "cursor": page.cursor, "lookedAt": page.looked_at}

    async def job(self, queue: str, job_id: str) -> Document:
        """See Source."""
        return (await self._service.job(queue, job_id)).json()

    async def task(self, task_id: str, queue: str | None) -> Document:
        """See Source."""
        return (await self._service.get_task_details(task_id, queue)).json()

    async def logs(self, queue: str, job_id: str, *, start: int, limit: int) -> Document:
        """See Source."""
        page = await self._service.logs(queue, job_id, start=start, limit=limit)
        return {"lines": list(page.lines), "total": page.total, "start": page.start, "next": page.next}

    async def act(self, action: str, queue: str, job_id: str, **arguments: Any) -> Document:
        """See Source."""
        return told(await self._job_acts[action](queue, job_id, actor=self._actor, **arguments))

    async def act_on_queue(self, action: str, queue: str, **arguments: Any) -> Document:
        """See Source."""
        return told(await self._queue_acts[action](queue, actor=self._actor, **arguments))

    async def bulk(
        self, action: str, queue: str, wanted: Wanted, *, to: str | None, dry_run: bool, limit: int
    ) -> Document:
        """See Source."""
        meant = wanted.filter()
        return told(
            await self._service.bulk(action, queue, meant, to=to, dry_run=dry_run, limit=limit, actor=self._actor)
        )

    async def add(self, task: Mapping[str, Any], options: AddOptions) -> Added:
        """See Source."""
        return await self._adding.add(task, options)

    @asynccontextmanager
    async def events(self, queues: Sequence[str]) -> AsyncIterator[AsyncIterator[Document]]:
        """See Source."""
        known = await self._service.queues()
        if missing := [name for name in queues if name not in known]:
            raise UnknownQueueError(f"there is no queue {shown(missing[0])}, neither configured nor in Redis")
        async with self._service.events(list(queues) or known) as heard:
            await heard.start()
            yield (each.json() async for each in heard)

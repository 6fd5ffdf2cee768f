"""Adding jobs: one, many, or a flow. All that is wrong with them is found before anything is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from tasks import TASKS
from tasks.base import Task
from workers.broker.add_script import AddRefusedError, Answer, NodeRefusedError, Placed
from workers.broker.bulk_producer import BulkBrokenError, place_all
from workers.broker.client import NotSentError, ReplyLostError
from workers.broker.flow_producer import place_flow
from workers.broker.hold import Parent
from workers.broker.new_job import NewJob
from workers.broker.producer import JobAdder
from workers.broker.refusals import may_pass
from workers.broker.result import message
from workers.queue_service import flow as flows
from workers.queue_service.add_options import DEFAULT, AddOptions
from workers.queue_service.added import Added, FlowAdded
from workers.queue_service.admission import Admission
from workers.queue_service.errors import (
    BrokenOffError,
    InvalidRequestError,
    QueueServiceError,
    QueueUnavailableError,
    RefusedError,
)
from workers.queue_service.flow import FlowNode
from workers.queue_service.new_jobs import AnyTask, Checked, NewJobs
from workers.queue_service.routes import Route, Routes

__all__ = ["Added", "Adding", "FlowAdded", "FlowNode"]

Item: TypeAlias = AnyTask | tuple[AnyTask, AddOptions]

#: The most tasks of one call.
MAX_ITEMS = 100_000
#: Tasks that are checked in one go, some ms; then others get their turn.
TURN = 100
#: Characters of an error that are shown.
MAX_DETAIL = 300


class Adding:
    """Adds jobs for tasks, to the queues that carry their types.

    A job's id is that of its task (`tasks.ids`), by which BullMQ adds it once. So what was not known to be added may be
    added again; of a task without an id it is not known.

    Args:
        adder: adds jobs.
        routes: where tasks go.
        admission: whether a queue may be added to. None: all may.
        types: the models by what `data.type` carries; those of one's own modules beside ours.
    """

    def __init__(
        self,
        adder: JobAdder,
        routes: Routes,
        *,
        admission: Admission | None = None,
        types: Mapping[str, type[Task]] = TASKS,
    ) -> None:
        self._adder = adder
        self._jobs = NewJobs(routes, types)
        self._admission = admission

    async def add(self, task: AnyTask, options: AddOptions = DEFAULT, *, parent: Parent | None = None) -> Added:
        """Add one.

        Args:
            parent: the job that is to wait for it, and that fails when it does; it must be there and may be running.

        Raises:
            InvalidRequestError: the task or an option is not what it should be, or no queue carries it.
            UnknownQueueError: the queue that was asked for is not configured.
            QueueFull: not now.
            QueueUnavailableError: Redis can't be reached, or did not say whether it was added.
            RefusedError: the parent is gone, or the child is another's or has failed.
        """
        checked = self._jobs.check(task, options, child=parent is not None)
        queue = checked.route.queue
        await self._admit({queue: 1})
        job = self._job(checked)
        if parent is not None:
            opts = {**job.opts, "fpof": True}
            job = NewJob(queue=queue, name=job.name, data=job.data, opts=opts, id=job.id, parent=parent)
        with _told(queue, own_id=bool(job.id)):
            return _added(checked.task_id, job, await self._adder.place(job))

    async def add_bulk(self, items: Sequence[Item]) -> list[Added]:
        """Add many, to any queues, in their order; what became of each.

        Everything is checked before anything is added, also whether the queues may take so many. It is not atomic.

        Args:
            items: tasks, or pairs of a task and its options.

        Raises:
            BrokenOffError: Redis went away meanwhile; says how far it got.
            InvalidRequestError, UnknownQueueError, QueueFull, QueueUnavailableError, RefusedError: as `add`; nothing
                was added. `field` says which: `items[3].data.to`.
        """
        pairs = _pairs(items)
        routes = self._routes(pairs)
        await self._admit(Counter(route.queue for route in routes))
        ids, jobs = await self._made(pairs, routes)
        try:
            answers = await place_all(self._adder, jobs)
        except BulkBrokenError as error:
            raise _broken_off(ids, jobs, error.answers, error.doubtful, error.__cause__ or error) from error
        except NodeRefusedError as error:
            raise InvalidRequestError(f"items[{error.node}].options", message(error, MAX_DETAIL)) from error
        if failed := next((each for each in answers if isinstance(each, Exception)), None):
            raise _broken_off(ids, jobs, answers, 0, failed)
        placed = [each for each in answers if isinstance(each, Placed)]
        return [_added(*each) for each in zip(ids, jobs, placed, strict=True)]

    async def flow(self, node: FlowNode) -> FlowAdded:
        """Add a flow, over any queues: all of it or nothing.

        A node that is there already has brought its children with it: a flow whose tasks have ids may be added again.

        Raises:
            InvalidRequestError, UnknownQueueError, QueueFull, QueueUnavailableError, RefusedError: as `add`; `field`
                says which node: `children[0].data.to`.
        """
        places = flows.walk(node)
        checked = []
        for place in places:
            with _within(place.where):
                checked.append(self._jobs.check(place.node.task, place.node.options, child=place.above >= 0))
        await self._admit(Counter(each.route.queue for each in checked))
        jobs = [self._job(each, place.where) for each, place in zip(checked, places, strict=True)]
        root = flows.tree(places, jobs)
        jobs = [each.job for each in flows.order(root)]
        try:
            with _told(root.job.queue, own_id=all(each.job_id for each in checked)):
                placed = await place_flow(self._adder, root)
        except NodeRefusedError as error:
            where = places[error.node].where.rstrip(".") or "flow"
            raise RefusedError(f"{where}: {message(error, MAX_DETAIL)}", queue=jobs[error.node].queue) from error
        return _flow_added(places, checked, jobs, placed)

    def _routes(self, pairs: Sequence[tuple[AnyTask, AddOptions]]) -> list[Route]:
        found = []
        for at, (task, options) in enumerate(pairs):
            try:
                found.append(self._jobs.route(task, options if isinstance(options, AddOptions) else DEFAULT))
            except QueueServiceError as error:
                raise _placed_at(error, f"items[{at}].") from error
        return found

    async def _made(
        self, pairs: Sequence[tuple[AnyTask, AddOptions]], routes: Sequence[Route]
    ) -> tuple[list[str], list[NewJob]]:
        """The ids of the tasks and their jobs. A task is let go at once: ten thousand of them would cost their time
        once more in the collection of garbage.
        """
        ids: list[str] = []
        jobs: list[NewJob] = []
        for at, ((task, options), route) in enumerate(zip(pairs, routes, strict=True)):
            try:
                checked = self._jobs.check(task, options, route=route)
                jobs.append(self._jobs.job(checked, depth=self._depth(route.queue)))
            except QueueServiceError as error:
                raise _placed_at(error, f"items[{at}].") from error
            ids.append(checked.task_id)
            if at % TURN == TURN - 1:
                await asyncio.sleep(0)
        return ids, jobs

    def _depth(self, queue: str) -> int:
        """How many jobs wait there, as last seen."""
        state = self._admission.state(queue) if self._admission is not None else None
        return state.stats.backlog if state is not None else 0

    async def _admit(self, counts: Mapping[str, int]) -> None:
        if self._admission is not None:
            for queue, count in counts.items():
                await self._admission.admit(queue, count)

    def _job(self, checked: Checked, where: str = "") -> NewJob:
        with _within(where):
            return self._jobs.job(checked, depth=self._depth(checked.route.queue))


def _pairs(items: Sequence[Item]) -> list[tuple[AnyTask, AddOptions]]:
    if not isinstance(items, list | tuple):
        raise InvalidRequestError("items", "expected a list of tasks")
    if len(items) > MAX_ITEMS:
        raise InvalidRequestError("items", f"expected at most {MAX_ITEMS:,}, found {len(items):,}")
    return [item if isinstance(item, tuple) and len(item) == 2 else (item, DEFAULT) for item in items]


def _added(task_id: str, job: NewJob, placed: Placed) -> Added:
    if placed.why is None:
        return Added(job.queue, placed.job_id, task_id or placed.job_id)
    keeps = placed.why == "deduplication" and bool(job.opts["de"].get("keepLastIfActive"))
    held = keeps and placed.state == "active"
    return Added(job.queue, placed.job_id, task_id or placed.job_id, True, placed.state, placed.why, held)


def _flow_added(
    places: Sequence[flows.Place], checked: Sequence[Checked], jobs: Sequence[NewJob], placed: Sequence[Placed]
) -> FlowAdded:
    below: dict[int, list[FlowAdded]] = {}
    for at in reversed(range(len(places))):
        if placed[at].job_id:  # else its parent was there already
            children = tuple(reversed(below.get(at, ())))
            below.setdefault(places[at].above, []).append(
                FlowAdded(_added(checked[at].task_id, jobs[at], placed[at]), children)
            )
    return below[-1][0]


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Errors within it say where in what was given they are."""
    try:
        yield
    except QueueServiceError as error:
        if not where:
            raise
        raise _placed_at(error, where) from error


def _placed_at(error: QueueServiceError, where: str) -> QueueServiceError:
    """The same error, about that part of what was given."""
    if isinstance(error, InvalidRequestError):
        text = str(error).removeprefix(f"{error.field}: ")
        return InvalidRequestError(f"{where}{error.field}", text, queue=error.queue)
    return type(error)(f"{where.rstrip('.')}: {error}", queue=error.queue)


@contextmanager
def _told(queue: str, *, own_id: bool) -> Iterator[None]:
    """What goes wrong within it becomes an error of ours, which says whether it was added."""
    try:
        yield
    except (NodeRefusedError, QueueServiceError):
        raise
    except AddRefusedError as error:
        raise RefusedError(f"queue {queue} takes no such job: {message(error, MAX_DETAIL)}", queue=queue) from error
    except Exception as error:
        raise _unavailable(queue, error, own_id) from error


def _unavailable(queue: str, error: Exception, own_id: bool) -> QueueServiceError:
    said = message(error, MAX_DETAIL)
    if isinstance(error, NotSentError):
        return QueueUnavailableError(f"queue {queue}: Redis can't be reached, nothing was added: {said}", queue=queue)
    if isinstance(error, ReplyLostError):
        again = (
            "adding it again is safe, since its id is its own" if own_id else "it may be there, under an id of BullMQ's"
        )
        text = f"queue {queue}: Redis did not answer, and it is not known whether it was added; {again}: {said}"
        return QueueUnavailableError(text, queue=queue)
    if may_pass(error):
        return QueueUnavailableError(f"queue {queue}: Redis takes no jobs now: {said}", queue=queue)
    return RefusedError(f"queue {queue}: Redis could not add it: {said}", queue=queue)


def _broken_off(
    ids: Sequence[str], jobs: Sequence[NewJob], answers: Sequence[Answer], doubtful: int, error: BaseException
) -> QueueServiceError:
    found: list[Added | None] = [
        _added(task_id, job, answer) if isinstance(answer, Placed) else None
        for task_id, job, answer in zip(ids, jobs, answers, strict=False)
    ]
    found += [None] * (len(jobs) - len(found))
    known, nameless = sum(each is not None for each in found), sum(not job.id for job in jobs)
    parts = [f"{known:,} of {len(jobs):,} jobs are known to be there"]
    if doubtful:
        parts.append(f"of {doubtful:,} it is not known")
    parts.append(f"{len(jobs) - known - doubtful:,} were not added")
    again = f"{nameless:,} have no id of their own and may come twice" if nameless else "each has an id of its own"
    text = f"{', '.join(parts)}; add all again: {again} ({message(error, MAX_DETAIL)})"
    return BrokenOffError(text, found)

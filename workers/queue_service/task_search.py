"""Finds the job of a task: by the ids under which producers add it, and else by what recent jobs say of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.ids import task_id_of
from tasks.status import node_answer
from workers.broker.job_reader import JobData, JobReader
from workers.broker.job_view import JobView
from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.task_status import job_ids

#: Characters of the longest id that is looked for, and how many of them one request has.
MAX_ID, MAX_IDS = 1024, 1000
#: Bytes of the largest data that are looked into for a status.
STATUS_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Sought:
    """What a search has found."""

    jobs: tuple[JobView, ...]
    """The job of the task first; then others of the same id, in other queues or of other tasks."""
    looked_at: int = 0
    """Recent jobs whose data were looked into, since no job has such an id."""


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """What Node's getTaskStatuses says of one task."""

    id: str
    status: str | None
    """`data.status`, else BullMQ's state, the first letter upper; None: there is no such task."""
    queue: str | None = None

    def json(self) -> dict[str, str | None]:
        """As Node answers: without a queue where there is no such task."""
        told: dict[str, str | None] = {"id": self.id, "status": self.status}
        return told if self.queue is None else {**told, "queueName": self.queue}


class TaskSearch:
    """Looks for tasks.

    Args:
        reader: reads jobs.
    """

    def __init__(self, reader: JobReader) -> None:
        self._reader = reader

    async def find(self, wanted: str, queues: Sequence[str]) -> Sought:
        """The jobs that a task's or a job's id means, with their states.

        A task's own id comes first: a job of this id may be of another task, where BullMQ has counted. Where there is
        none of them, the newest jobs of each state are looked through, and those that are next, since Node adds
        notifications under ids that BullMQ counts.

        Raises:
            InvalidRequestError: no task is called so.
            redis.exceptions.RedisError, OSError: Redis is away.
        """
        check_id(wanted)
        ids = job_ids(wanted)
        found = await self._reader.look_up({queue: ids for queue in queues})
        if hits := _ranked(wanted, ids, found):
            return Sought(tuple(hits))
        texts = list(dict.fromkeys(json.dumps(wanted, ensure_ascii=ascii_only) for ascii_only in (False, True)))
        named = await self._reader.named(queues, wanted, texts)
        maybe = await self._reader.look_up({queue: near.ids for queue, near in named.items()})
        jobs = [view for queue in queues for view in maybe[queue].values() if view.task_id == wanted]
        return Sought(tuple(jobs), sum(near.looked_at for near in named.values()))

    async def answers(self, wanted: Sequence[str], queues: Sequence[str]) -> list[TaskAnswer]:
        """What Node's getTaskStatuses answers, in the order in which it is asked; one round trip for all, but where
        they hold more than 8 MB. Unlike Node's it finds what was added as `task-<digits>`. Data of more than 1 MB are
        not looked into: BullMQ's state is told.

        Raises:
            InvalidRequestError: they are no ids, or too many.
            redis.exceptions.RedisError, OSError: Redis is away.
        """
        if isinstance(wanted, str) or len(wanted) > MAX_IDS:
            raise InvalidRequestError("ids", f"expected a list of at most {MAX_IDS:,}")
        for each in wanted:
            check_id(each)
        named = {each: job_ids(each) for each in wanted}
        ids = [job_id for candidates in named.values() for job_id in candidates]
        found: dict[str, list[JobData]] = {}
        for data in await self._reader.data_of({queue: ids for queue in queues}, limit=STATUS_BYTES):
            found.setdefault(data.id, []).append(data)
        return [_answer(each, [data for job_id in named[each] for data in found.get(job_id, ())]) for each in wanted]


def check_id(wanted: str) -> None:
    """Return if a task or a job could have this id.

    Raises:
        InvalidRequestError
    """
    if not isinstance(wanted, str) or not 0 < len(wanted) <= MAX_ID:
        raise InvalidRequestError("id", f"expected 1 to {MAX_ID:,} characters")


def status_said(view: JobView) -> object:
    """`data.status`, where the data could be read."""
    return view.data.get("status") if isinstance(view.data, Mapping) else None


def bullmq_state(state: str) -> str:
    """As BullMQ's getState says it, which counts what is in the list of a paused queue as waiting."""
    return "waiting" if state == "paused" else state


def _ranked(wanted: str, ids: Sequence[str], found: Mapping[str, Mapping[str, JobView]]) -> list[JobView]:
    """The jobs that have one of these ids: first those of the task, in the order of the ids and then of the queues."""
    hits: Iterable[JobView] = (jobs[job_id] for job_id in ids for jobs in found.values() if job_id in jobs)
    mine = [view for view in hits if wanted in (view.task_id, view.id) or "data" in view.cut]
    return sorted(mine, key=lambda view: view.task_id != wanted)


def _answer(wanted: str, hits: Sequence[JobData]) -> TaskAnswer:
    """The same, of the same jobs in the same order, for `answers`."""
    best: tuple[JobData, object] | None = None
    for hit in hits:
        data = _parsed(hit.text)
        task_id = task_id_of(hit.id, data)
        if task_id == wanted or (best is None and (hit.id == wanted or hit.text is None)):
            best = hit, data.get("status") if isinstance(data, dict) else None
            if task_id == wanted:
                break
    status = None if best is None else node_answer(best[1], bullmq_state(best[0].state))
    return TaskAnswer(wanted, status, None if best is None or status is None else best[0].queue)


def _parsed(text: str | None) -> Any:
    try:
        return read_json(text, "data") if text else None
    except UnreadableError:
        return None

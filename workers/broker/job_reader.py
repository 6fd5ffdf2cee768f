"""Reads jobs as they are shown: one, many, the jobs of a state page by page. Changes nothing, never looks for keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from redis.asyncio import Redis

from workers.broker.batch import Batch, Command, lasting, told
from workers.broker.job_scripts import FIELDS, JOBS, NAMED, SLICE
from workers.broker.job_view import JobView, view
from workers.broker.numbers import is_number
from workers.broker.stats_script import DELAYED_SCORE

Order: TypeAlias = Literal["newest", "oldest"]

#: Where the jobs of a state are: the key's name, and whether it is a list.
KEYS = {
    "active": ("active", True),
    "waiting": ("wait", True),
    "paused": ("paused", True),
    "prioritized": ("prioritized", False),
    "delayed": ("delayed", False),
    "waiting-children": ("waiting-children", False),
    "completed": ("completed", False),
    "failed": ("failed", False),
}
#: Bytes of one value that are read of many jobs, and of a single one; bytes that one script returns, about.
MANY_BYTES, ONE_BYTES, REPLY_BYTES = 256 * 1024, 16 * 2**20, 8 * 2**20
#: Entries of lists that one script compares to find states, some 20 ms; for a single job, as many as BullMQ itself.
ENTRIES, ALL_ENTRIES = 2_000_000, 2**31
#: Jobs at each end of each state in which a task is looked for by its data, and bytes of data that are looked into.
NEAR, NEAR_BYTES = 250, 2**20
#: The last jobs of a page, and their bytes, after which the next one begins in a list.
MAX_ANCHORS, MAX_ANCHOR_BYTES = 6, 1500


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in a state a page ended."""

    score: str = ""
    job_id: str | None = None
    """In a sorted set: after this job. A score without a job: at it."""
    place: int = 0
    length: int = 0
    anchors: tuple[str, ...] = ()
    """In a list: the places that were shown, its length then, and the last jobs."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some jobs of a state."""

    ids: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    """Of a sorted set, one for each."""
    place: int = 0
    length: int = 0
    """Of a list: where the first one is, and how long the list is."""
    is_last: bool = True
    """None follow."""

    def mark(self, count: int | None = None) -> Mark:
        """For what follows on the first `count` of them, or on all. There must be one at least."""
        ids = self.ids[:count]
        if self.scores:
            return Mark(self.scores[len(ids) - 1], ids[-1])
        return Mark(place=self.place + len(ids), length=self.length, anchors=_anchors(ids))


@dataclass(frozen=True, slots=True)
class JobData:
    """What a job is about, and its state."""

    queue: str
    id: str
    state: str
    text: str | None
    """Its data, as stored; None: they are too large to be read."""


@dataclass(frozen=True, slots=True)
class Named:
    """What the data of a queue's jobs said of a task."""

    looked_at: int
    ids: tuple[str, ...]
    """Jobs that may be it; their data have its id as a text somewhere."""


class JobReader:
    """Reads jobs of the queues under one prefix.

    Every method raises redis.exceptions.RedisError or OSError where Redis is away, not in a state to answer, or does
    not permit the look.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self.prefix = prefix
        self._batch = Batch(client, SLICE, JOBS, NAMED)

    def base(self, queue: str) -> str:
        """What a queue's keys begin with."""
        return f"{self.prefix}:{queue}:"

    async def job(self, queue: str, job_id: str) -> JobView | None:
        """One job with its state, whole up to 16 MB a value; None: there is no such job."""
        found = await self.look_up({queue: [job_id]}, limit=ONE_BYTES, entries=ALL_ENTRIES)
        return found[queue].get(job_id)

    async def look_up(
        self,
        wanted: Mapping[str, Sequence[str]],
        *,
        fields: Sequence[str] = FIELDS,
        limit: int = MANY_BYTES,
        entries: int = ENTRIES,
    ) -> dict[str, dict[str, JobView]]:
        """Jobs with their states, by queue and id, those that are there. One round trip for all queues, but where
        they hold more than 8 MB. Of a job deep in a list of millions, whose search would block the server, it is
        taken for granted that it waits.

        Args:
            fields: of the row that are read.
            limit: bytes of one value; a longer one is cut.
            entries: of lists that are compared for one queue.
        """
        found: dict[str, dict[str, JobView]] = {queue: {} for queue in wanted}
        for queue, job_id, reply in await self._replies(wanted, fields, limit, entries):
            seen = self._view(queue, job_id, reply, fields)
            if seen is not None:
                found[queue][job_id] = seen
        return found

    async def data_of(self, wanted: Mapping[str, Sequence[str]], *, limit: int) -> list[JobData]:
        """The data of jobs and their states, as `look_up` finds them, at a tenth of the cost.

        Args:
            limit: bytes of the data; longer ones are not told.
        """
        found = []
        for queue, job_id, reply in await self._replies(wanted, ("name", "timestamp", "data"), limit, ENTRIES):
            if reply and not isinstance(reply[0], str):
                text = None if reply[1] else reply[0][2] or ""
                found.append(JobData(queue, job_id, reply[2], text))
        return found

    async def _replies(
        self, wanted: Mapping[str, Sequence[str]], fields: Sequence[str], limit: int, entries: int
    ) -> list[tuple[str, str, list[Any]]]:
        """What JOBS says of each job that is there, with its queue and id."""
        found = []
        left = {queue: list(dict.fromkeys(ids)) for queue, ids in wanted.items() if ids}
        while left:
            calls = [self._call(queue, ids, fields, limit, entries) for queue, ids in left.items()]
            for queue, reply in zip(list(left), await self._batch(calls), strict=True):
                ids = left[queue]
                found += [(queue, job_id, each) for job_id, each in zip(ids, told(reply), strict=False) if each]
                left[queue] = ids[len(reply) :]
            left = {queue: ids for queue, ids in left.items() if ids}
        return found

    async def rows(self, queue: str, part: Slice, state: str, *, limit: int = MANY_BYTES) -> list[JobView]:
        """The jobs of a slice, in its order, without those that are gone."""
        found: list[JobView] = []
        scores = dict(zip(part.ids, map(float, part.scores), strict=False))
        left = list(part.ids)
        while left:
            (reply,) = await self._batch([self._call(queue, left, FIELDS, limit, -1)])
            for job_id, each in zip(left, told(reply), strict=False):
                seen = self._view(queue, job_id, each, FIELDS, state=state, score=scores.get(job_id))
                if seen is not None:
                    found.append(seen)
            left = left[len(reply) :]
        return found

    async def slice(
        self, queue: str, state: str, count: int, *, after: Mark | None = None, order: Order = "newest"
    ) -> Slice:
        """Some jobs of one state of KEYS. `oldest` is the order in which they start, are due or have ended, `newest`
        the other way round.

        A job that stays in its state comes once, whatever others do meanwhile; in a list from which all the jobs
        vanish that were shown last, perhaps twice.
        """
        name, is_list = KEYS[state]
        mark = after or Mark()
        args: list[Any] = ["list" if is_list else "zset", order, count]
        if is_list:
            args += [mark.place, mark.length, *mark.anchors]
        else:
            args += [mark.score] if mark.job_id is None else [mark.score, mark.job_id]
        (reply,) = await self._batch([SLICE.call([self.base(queue) + name], args)])
        if isinstance(reply, Exception):
            if "WRONGTYPE" in lasting(reply):
                return Slice()
            raise reply
        start, length, found = reply
        if is_list:
            return Slice(tuple(found), (), start, length, start + len(found) >= length)
        return Slice(tuple(found[::2]), tuple(found[1::2]), is_last=len(found) < 2 * count)

    async def named(self, queues: Iterable[str], task_id: str, texts: Sequence[str]) -> dict[str, Named]:
        """The recent jobs of these queues whose data may be of this task, in one round trip: at each end of each state
        250 are looked at.

        Args:
            texts: what the data have where they name it, as JSON.
        """
        asked = list(dict.fromkeys(queues))
        calls = [NAMED.call([self.base(queue)], [NEAR, NEAR_BYTES, *texts]) for queue in asked]
        replies = await self._batch(calls)
        return {queue: Named(told(reply)[0], tuple(reply[1])) for queue, reply in zip(asked, replies, strict=True)}

    def _call(self, queue: str, ids: Sequence[str], fields: Sequence[str], limit: int, entries: int) -> Command:
        return JOBS.call([self.base(queue)], [limit, REPLY_BYTES, entries, len(fields), *fields, *ids])

    def _view(
        self,
        queue: str,
        job_id: str,
        reply: list[Any],
        fields: Sequence[str],
        *,
        state: str = "unknown",
        score: float | None = None,
    ) -> JobView | None:
        if not reply:
            return None
        if isinstance(reply[0], str):
            return JobView(queue=queue, id=job_id, task_id=job_id, state=state, problems=(f"no job's row: {reply[0]}",))
        values, cut, *where = reply
        row = {name: value for name, value in zip(fields, values, strict=True) if value is not None}
        sizes = {fields[at - 1]: size for at, size in zip(cut[::2], cut[1::2], strict=True)}
        if where:
            state, score = where[0], float(where[1]) if where[1] else None
        due = int(score / DELAYED_SCORE) if state == "delayed" and is_number(score) else None
        return view(queue, job_id, row, state=state, prefix=self.prefix, due_ms=due, cut=sizes)


def _anchors(ids: Sequence[str]) -> tuple[str, ...]:
    """The last ids, the last one first, and the page's first one in case that all these go; few and short enough for a
    cursor.
    """
    found: list[str] = []
    left = MAX_ANCHOR_BYTES
    for job_id in (*reversed(ids[-MAX_ANCHORS + 1 :]), *ids[:1]):
        left -= len(job_id.encode("utf-8", "surrogatepass"))
        if left >= 0 and job_id not in found:
            found.append(job_id)
    return tuple(found)

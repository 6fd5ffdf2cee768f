"""Runs one script of `act_scripts.py` for each of many jobs, so many in a round trip, and reads what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, ResponseError

from workers.broker import act_scripts
from workers.broker.client import NotSentError
from workers.broker.refusals import may_pass
from workers.broker.result import clean

T = TypeVar("T")

Word: TypeAlias = Literal[
    "ok", "asked", "written", "gone", "not", "changed", "schedule", "held", "child held", "flow", "taken",
    "deduplicated", "broken", "refused",
]  # fmt: skip
"""How an act went: done; the run was asked to stop; only the data were written; no such job; not in a state for it; its
data changed meanwhile; it is the next of a schedule; a worker has it; a worker has a child of it; it belongs to a flow;
there is a job of that id; there is one of that deduplication id; its row can't be used; Redis does not take it now.
"""

#: Jobs of one round trip.
CHUNK = 100
#: How often an act is tried anew on a job whose data somebody else writes meanwhile.
TRIES = 5
#: Characters of an error that are told.
MAX_DETAIL = 200
#: What is read of a job before an act that needs it.
FIELDS = ("name", "data", "opts", "atm", "attemptsMade", "parent", "timestamp", "priority", "pb")

Call: TypeAlias = tuple[list[str], list[Any]]
"""KEYS and ARGV, without those that every script gets."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an act on one job."""

    job_id: str
    word: Word
    state: str = "unknown"
    """BullMQ's, before the act."""
    detail: str = ""
    """Who holds it, the schedule, the new job's id, the job with that deduplication id, what Redis said."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it was read before an act."""

    queue: str
    id: str
    row: Mapping[str, str]

    @property
    def data(self) -> str:
        """The text of its data."""
        return self.row.get("data", "")


class UnfinishedError(Exception):
    """Redis went away before all jobs were done."""

    def __init__(self, done: Sequence[Answer], doubtful: Sequence[str], left: Sequence[str], cause: Exception) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.done = tuple(done)
        self.doubtful = tuple(doubtful)
        """Jobs of which it is not known."""
        self.left = tuple(left)
        """Jobs to which nothing was done."""


class ActRunner:
    """Args as of JobActs."""

    def __init__(self, client: Redis, prefix: str, timeout_s: float) -> None:
        self.client = client
        self.prefix = prefix
        self.timeout_s = timeout_s

    def key(self, queue: str, job_id: str) -> str:
        """A job's, or another of the queue."""
        return f"{self.prefix}:{queue}:{job_id}"

    async def find(self, queues: Sequence[str], ids: Sequence[str]) -> list[StoredJob]:
        """The jobs that are there, of these ids in these queues; the first queue first.

        Raises:
            UnfinishedError: it can't be told.
        """
        wanted = [(queue, job_id) for queue in queues for job_id in ids]
        found: list[StoredJob] = []
        for chunk in _chunks(wanted):
            try:
                async with asyncio.timeout(self.timeout_s):
                    rows = await self._rows([self.key(*each) for each in chunk])
            except Exception as error:
                raise UnfinishedError([], [], ids, error) from error
            found += [StoredJob(queue, job_id, row) for (queue, job_id), row in zip(chunk, rows, strict=True) if row]
        return found

    async def run(
        self, name: str, queue: str, ids: Sequence[str], call: Callable[[StoredJob], Call], *, tries: int = 1
    ) -> list[Answer]:
        """The script's answers, in the order of `ids`.

        Args:
            call: what it gets for one job.
            tries: how often for one whose data change meanwhile. With more than one its row is read first; else `call`
                gets an empty one.

        Raises:
            UnfinishedError: Redis went away.
        """
        done: list[Answer] = []
        for chunk in _chunks(ids):
            try:
                done += await self._chunk(name, queue, chunk, call, tries)
            except Exception as error:
                left = ids[len(done) + len(chunk) :]
                if isinstance(error, NotSentError):
                    raise UnfinishedError(done, [], [*chunk, *left], error) from error
                raise UnfinishedError(done, chunk, left, error) from error
        return done

    async def _chunk(
        self, name: str, queue: str, ids: Sequence[str], call: Callable[[StoredJob], Call], tries: int
    ) -> list[Answer]:
        answers: dict[str, Answer] = {}
        todo = list(dict.fromkeys(ids))
        for _ in range(tries):
            async with asyncio.timeout(self.timeout_s):
                rows = await self._rows([self.key(queue, each) for each in todo]) if tries > 1 else [{}] * len(todo)
                jobs = [StoredJob(queue, job_id, row) for job_id, row in zip(todo, rows, strict=True)]
                replies = await self._send(name, [self._full(job, call(job)) for job in jobs])
            answers |= {job_id: _answer(job_id, reply) for job_id, reply in zip(todo, replies, strict=True)}
            todo = [job_id for job_id in todo if answers[job_id].word == "changed"]
            if not todo:
                break
        return [answers[job_id] for job_id in ids]

    def _full(self, job: StoredJob, call: Call) -> Call:
        names, args = call
        return [self.key(job.queue, job.id), *names], [self.key(job.queue, ""), job.id, *args]

    async def _send(self, name: str, calls: Sequence[Call]) -> list[Any]:
        script = self.client.register_script(act_scripts.script(name))
        if len(calls) == 1:  # no pipeline: of a single command the client says whether it was sent
            ((names, args),) = calls
            try:
                return [await script(keys=names, args=args)]
            except ResponseError as error:
                return [error]
        replies = await self._pipelined(script, calls)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the server was replaced or has forgotten its scripts: these did not run
            await self.client.script_load(str(script.script))
            for at, reply in zip(unknown, await self._pipelined(script, [calls[at] for at in unknown]), strict=True):
                replies[at] = reply
        return replies

    async def _pipelined(self, script: AsyncScript, calls: Sequence[Call]) -> list[Any]:
        pipe: Any = self.client.pipeline(transaction=False)
        for names, args in calls:
            pipe.evalsha(script.sha, len(names), *names, *args)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    async def _rows(self, names: Sequence[str]) -> list[dict[str, str]]:
        if len(names) == 1:
            found = [await self.client.hmget(names[0], list(FIELDS))]
        else:
            pipe: Any = self.client.pipeline(transaction=False)
            for name in names:
                pipe.hmget(name, list(FIELDS))
            found = await pipe.execute()
        return [
            {name: str(value) for name, value in zip(FIELDS, values, strict=True) if value is not None}
            for values in found
        ]


def _answer(job_id: str, reply: Any) -> Answer:
    if isinstance(reply, ResponseError):
        return Answer(job_id, "refused" if may_pass(reply) else "broken", detail=clean(str(reply), MAX_DETAIL))
    if isinstance(reply, Exception):
        raise reply
    word, state, *rest = (str(each) for each in reply)
    return Answer(job_id, cast(Word, word), state, rest[0] if rest else "")


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), CHUNK):
        yield items[at : at + CHUNK]

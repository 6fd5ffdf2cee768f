"""Job schedulers of BullMQ's: reads them, writes them, removes them. Written and removed through the package, in one
step with a look whether they are still what was read (schedule_scripts.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgpack
from bullmq import Queue
from bullmq.job_scheduler import JobScheduler
from redis.asyncio import Redis

from workers.broker import cron, keys
from workers.broker.backend import now_ms
from workers.broker.batch import Batch, told
from workers.broker.schedule_scripts import DROP, MARK, MAX_READ, PUT, READ
from workers.broker.schedule_view import StoredSchedule, fingerprint, parse

Word: TypeAlias = Literal["ok", "changed", "taken", "over", "gone"]
"""How it went: done; it is not what was read any more; its next run's id is taken by a job that was started early; it
has no run any more; there is none."""

#: Schedules that are read in one round trip.
CHUNK = 100
#: A mark, or a version, of which it does not matter what it is.
WHATEVER = "*"
#: Instead of a mark: there is to be none.
NO_MARK = "-"
#: The keys of addJobScheduler-11.lua, in its order.
_KEYS = ("repeat", "delayed", "wait", "paused", "meta", "prioritized", "marker", "id", "events", "pc", "active")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A job scheduler as it is to be written."""

    queue: str
    id: str
    name: str
    """Of its jobs."""
    repeat: Mapping[str, Any]
    """Its times in BullMQ's repeat options: `pattern` and `tz`, or `every`; `limit`, `startDate`, `endDate`; ms."""
    data: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """BullMQ's, of its jobs, by the names under which they are stored."""

    @property
    def fingerprint(self) -> str:
        """As of what is stored; see StoredSchedule.fingerprint."""
        return fingerprint(self.name, self.repeat, self.data, self.options)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is under one id."""

    stored: StoredSchedule | None = None
    mark: str = ""
    """Empty: none."""

    @property
    def version(self) -> str:
        """Of what is stored, for `put` and `drop`; empty: there is nothing."""
        return "" if self.stored is None else self.stored.version


class Schedulers:
    """The job schedulers of the queues of one prefix. Raises what Redis and its client raise, and TimeoutError.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        timeout_s: how long one round trip may take.
    """

    def __init__(self, client: Redis, prefix: str, *, timeout_s: float = 15.0) -> None:
        self._client = client
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._queues: dict[str, Queue] = {}
        self._batch = Batch(client, READ)
        self._put, self._drop, self._mark = (client.register_script(text) for text in (PUT, DROP, MARK))

    async def read(self, queue: str, ids: Sequence[str]) -> dict[str, Found]:
        """What there is under these ids."""
        names, base = [self._key(queue, "repeat"), keys.schedules(self._prefix, queue)], self._key(queue, "")
        found: dict[str, Found] = {}
        for at in range(0, len(ids), CHUNK):
            chunk = ids[at : at + CHUNK]
            async with asyncio.timeout(self._timeout_s):
                replies = await self._batch([READ.call(names, [base, each, MAX_READ]) for each in chunk])
            for schedule_id, reply in zip(chunk, replies, strict=True):
                mark, stored = told(reply)
                found[schedule_id] = Found(parse(queue, schedule_id, stored), str(mark))
        return found

    async def page(self, queue: str, start: int, count: int) -> tuple[list[Found], int]:
        """Some of the queue's schedulers, the next one that is due first, and how many there are. Those that others
        have made are among them, and repeatable jobs of old.
        """
        pipe: Any = self._client.pipeline(transaction=False)
        pipe.zrange(self._key(queue, "repeat"), start, start + count - 1)
        pipe.zcard(self._key(queue, "repeat"))
        async with asyncio.timeout(self._timeout_s):
            ids, total = await pipe.execute()
        found = await self.read(queue, [str(each) for each in ids])
        return [each for each in found.values() if each.stored is not None], int(total)

    async def marked(self, queue: str) -> dict[str, str]:
        """The marks of the queue, by the id of the scheduler."""
        async with asyncio.timeout(self._timeout_s):
            found: Any = await self._client.hgetall(keys.schedules(self._prefix, queue))
        return {str(name): str(mark) for name, mark in found.items()}

    async def put(
        self, new: NewSchedule, *, version: str = WHATEVER, mark: str = WHATEVER, marked: str = "", done: int = 0
    ) -> Word:
        """Write one, and plan its next run instead of the one that is planned.

        Args:
            version, mark: what was read; where it has changed since, nothing is written.
            marked: the mark that it gets; empty: the one that it has.
            done: how many runs of its `limit` there were.

        Raises:
            ValueError: its times are none.
        """
        if (queue := self._queues.get(new.queue)) is None:
            queue = Queue(new.queue, {"connection": self._client, "prefix": self._prefix})
            self._queues[new.queue] = queue
        backend = _Guarded(queue, self._put, (version, mark, marked), keys.schedules(self._prefix, new.queue))
        scheduler = JobScheduler(queue, cron.following)
        scheduler.backend = backend
        repeat = {**new.repeat, "count": done} if done else dict(new.repeat)
        async with asyncio.timeout(self._timeout_s):
            await scheduler.upsertJobScheduler(new.id, repeat, new.name, dict(new.data), dict(new.options))
        return backend.word

    async def drop(self, queue: str, schedule_id: str, *, version: str = WHATEVER, mark: str = WHATEVER) -> Word:
        """Remove one with its mark, and the job of its next run where that is not due yet.

        Args:
            version, mark: what was read; where it has changed since, nothing is removed.
        """
        names = [self._key(queue, name) for name in ("repeat", "delayed", "events")]
        args = [schedule_id, self._key(queue, ""), version, mark, NO_MARK]
        return await self._ask(self._drop, [*names, keys.schedules(self._prefix, queue)], args)

    async def remove(self, queue: str, schedule_id: str) -> Word:
        """Remove one, whatever it is. Its mark stays, so that it is known to have been removed by hand."""
        names = [self._key(queue, name) for name in ("repeat", "delayed", "events")]
        args = [schedule_id, self._key(queue, ""), WHATEVER, WHATEVER, ""]
        return await self._ask(self._drop, [*names, keys.schedules(self._prefix, queue)], args)

    async def mark(self, queue: str, schedule_id: str, found: Found, marked: str) -> Word:
        """Give one another mark, where it is still what was read."""
        names = [self._key(queue, "repeat"), keys.schedules(self._prefix, queue)]
        return await self._ask(self._mark, names, [schedule_id, found.version, found.mark, marked])

    async def _ask(self, script: Any, names: Sequence[str], args: Sequence[Any]) -> Word:
        async with asyncio.timeout(self._timeout_s):
            (word, *_) = await script(keys=names, args=args)
        return _word(word)

    def _key(self, queue: str, name: str) -> str:
        return f"{self._prefix}:{queue}:{name}"


class _Guarded:
    """The backend of one upsert: the package says what is to be written, our script whether it may be."""

    def __init__(self, queue: Queue, script: Any, guard: tuple[str, str, str], marks: str) -> None:
        self._queue = queue
        self._script = script
        self._guard = guard
        self._marks = marks
        self.word: Word = "over"
        """How it went; over, until the package has planned a run."""

    async def addJobScheduler(
        self,
        schedule_id: str,
        next_ms: int,
        data: str,
        template: dict[str, Any],
        schedule: dict[str, Any],
        job: dict[str, Any],
        producer: str | None = None,
    ) -> Any:
        """As Scripts.addJobScheduler."""
        encoded = (self._queue.scripts.encodeOpts(each) for each in (template, job))
        of_template, of_job = (msgpack.packb(each) for each in encoded)
        args = [next_ms, msgpack.packb(schedule), schedule_id, data, of_template, of_job, now_ms()]
        args += [self._queue.keys[""], "", *self._guard]
        names = [self._queue.keys[name] for name in _KEYS]
        (word, *planned) = await self._script(keys=[*names, self._marks], args=args)
        self.word = _word(word)
        return planned if self.word == "ok" else None


def _word(said: Any) -> Word:
    match str(said):
        case "ok" | "changed" | "taken" | "gone" as word:
            return word
    raise AssertionError(f"a script answered {said!r}")

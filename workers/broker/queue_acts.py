"""Acts on a queue as a whole: BullMQ's global pause, and cleaning, a bounded number of jobs at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from bullmq.redis_connection import SCRIPT_DEFINITIONS, loadScript
from redis.asyncio import Redis

from workers.broker import act_scripts, keys
from workers.broker.backend import now_ms
from workers.broker.numbers import MAX_SAFE

T = TypeVar("T")

Place: TypeAlias = Literal["wait", "paused", "prioritized", "delayed", "active", "completed", "failed"]
"""Where BullMQ keeps jobs; `paused` is a list of BullMQ before 6."""

#: BullMQ's own.
CLEAN: str = SCRIPT_DEFINITIONS["cleanJobsInSet"]
#: Jobs that are removed by one script, and ids that are read in one round trip.
PAGE = 1000
#: Jobs that one request looks through.
MAX_LOOKED = 100_000
_LISTS = ("wait", "paused", "active")

# KEYS: meta, who has paused it. ARGV: base, `paused` or `resumed`, "1" to tell it, by whom and when (ms). Returns
# whether it was paused, and how many jobs are left to be moved from one list to the other by the next call, as BullMQ
# moves them: a bounded number at a time. Where keys of Fleet's own are not permitted, it is nobody's pause.
_PAUSE = """
local base, word = ARGV[1], ARGV[2]
local from, to = base .. "paused", base .. "wait"
if word == "paused" then from, to = to, from end
local was = redis.call("HEXISTS", base .. "meta", "paused")
local left = pause(
  {from, to, base .. "meta", base .. "prioritized", base .. "events", base .. "delayed", base .. "marker"},
  {word, ARGV[3]})
if word == "paused" and waiting_list(base) == to then
  for _ = 1, 7000 do if not redis.call("RPOPLPUSH", from, to) then break end end
  left = redis.call("LLEN", from)
end
if word == "resumed" then
  redis.pcall("DEL", KEYS[2])
elseif ARGV[4] ~= "" then
  redis.pcall("HSET", KEYS[2], "by", ARGV[4], "at", ARGV[5])
end
return {was, tonumber(left) or 0}
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Jobs that were found by their age."""

    ids: tuple[str, ...]
    more: bool
    """There may be more of them: a bound was met."""


class QueueActs:
    """Acts on the queues of one prefix. Raises what Redis and its client raise, and TimeoutError.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        timeout_s: how long one round trip may take.
        clock: ms since the epoch.
    """

    def __init__(
        self, client: Redis, prefix: str, *, timeout_s: float = 15.0, clock: Callable[[], int] = now_ms
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._clock = clock
        self._pause = client.register_script(act_scripts.function("pause") + act_scripts.WAITING + _PAUSE)
        self._clean = client.register_script(loadScript(CLEAN))

    async def pause(self, queue: str, *, by: str = "") -> bool:
        """Start no job of this queue, in no worker of any kind: BullMQ's global pause. Running jobs run on. Returns
        whether it was so already. Listeners hear `paused` in any case.

        Args:
            by: who does so: it is then not resumed by `on_global_pause` (global_pause.py).
        """
        return await self._set_paused(queue, "paused", by)

    async def resume(self, queue: str) -> bool:
        """The opposite. Returns whether it was not paused."""
        return not await self._set_paused(queue, "resumed")

    async def _set_paused(self, queue: str, word: str, by: str = "") -> bool:
        names, base = [self._key(queue, "meta"), keys.paused_by(self._prefix, queue)], self._key(queue, "")
        was, left = await self._timed(self._pause(keys=names, args=[base, word, "1", by, self._clock()]))
        while left:
            _, left = await self._timed(self._pause(keys=names, args=[base, word, "0", by, self._clock()]))
        return bool(was)

    async def clean(self, queue: str, place: Place, limit: int, before_ms: int = MAX_SAFE) -> list[str]:
        """Remove jobs, as BullMQ's cleanJobsInSet does it in one page, and return their ids. The next job of a schedule
        and what a worker has stay. Listeners hear `cleaned`.

        Args:
            limit: how many at most, up to PAGE.
            before_ms: those that were finished, or added, then or before. Exact for completed and failed jobs; of
                others BullMQ looks at the first `limit` alone, see `chosen`.
        """
        names = [self._key(queue, place), self._key(queue, "events"), self._key(queue, "repeat")]
        args: list[Any] = [self._key(queue, ""), before_ms, min(limit, PAGE), place]
        return [str(job_id) for job_id in await self._timed(self._clean(keys=names, args=args))]

    async def tell_cleaned(self, queue: str, count: int) -> None:
        """What listeners hear of jobs that were removed one by one."""
        await self._timed(self._client.xadd(self._key(queue, "events"), {"event": "cleaned", "count": count}))

    async def count(self, queue: str, places: Sequence[Place], before_ms: int | None = None) -> int:
        """How many jobs there are in these places.

        Args:
            before_ms: those that were finished then or before; for completed and failed alone. None: all.
        """
        pipe: Any = self._client.pipeline(transaction=False)
        for place in places:
            key = self._key(queue, place)
            if before_ms is not None:
                pipe.zcount(key, 0, before_ms)
            else:
                pipe.llen(key) if place in _LISTS else pipe.zcard(key)
        return sum(await self._timed(pipe.execute()))

    async def scheduled(self, queue: str, places: Sequence[Place]) -> int:
        """How many jobs in these places are the next of a schedule, and stay when they are cleaned."""
        key, last = self._key(queue, "repeat"), MAX_LOOKED - 1
        found: Any = await self._timed(self._client.zrange(key, 0, last, withscores=True))
        sets = [place for place in places if place not in _LISTS]
        if not found or not sets:
            return 0
        pipe: Any = self._client.pipeline(transaction=False)
        for schedule, due in found:
            for place in sets:
                pipe.zscore(self._key(queue, place), f"repeat:{schedule}:{int(due)}")
        return sum(score is not None for score in await self._timed(pipe.execute()))

    async def chosen(self, queue: str, place: Place, limit: int, before_ms: int) -> Chosen:
        """The jobs in this place that were finished, else started, else added then or before: what `clean` would take,
        were it to look at all of them.
        """
        key, ids = self._key(queue, place), list[str]()
        for start in range(0, MAX_LOOKED, PAGE):
            read: Any = self._client.lrange if place in _LISTS else self._client.zrange
            page = await self._timed(read(key, start, start + PAGE - 1))
            found = [str(job_id) for job_id in page]
            ids += await self._old(queue, found, before_ms)
            if len(found) < PAGE or len(ids) > limit:
                return Chosen(tuple(ids[:limit]), more=len(ids) > limit)
        return Chosen(tuple(ids[:limit]), more=True)

    async def _old(self, queue: str, ids: Sequence[str], before_ms: int) -> list[str]:
        pipe: Any = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self._key(queue, job_id), "finishedOn", "processedOn", "timestamp")
        rows = await self._timed(pipe.execute()) if ids else []
        return [job_id for job_id, row in zip(ids, rows, strict=True) if _since(row) <= before_ms]

    async def _timed(self, command: Awaitable[T]) -> T:
        async with asyncio.timeout(self._timeout_s):
            return await command

    def _key(self, queue: str, name: str) -> str:
        return f"{self._prefix}:{queue}:{name}"


def _since(row: Sequence[str | None]) -> float:
    """As getTimestamp in cleanJobsInSet-3.lua: the first that is there; none is as old as can be."""
    try:
        return float(next((each for each in row if each), 0))
    except ValueError:
        return 0.0

"""Reads how many jobs of a queue have ended when, how long the last ones took, and how many wait at which priority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bullmq.redis_connection import loadScript
from redis.asyncio import Redis

from workers.broker.batch import Batch, Lua, told
from workers.broker.job_view import JobView, view
from workers.broker.stats_script import number

Ended: TypeAlias = Literal["completed", "failed"]

#: How jobs end.
ENDED: tuple[Ended, Ended] = ("completed", "failed")
#: Bytes of one value of a job that is looked at for its times and its error.
MAX_BYTES = 2048
#: Different priorities that are told apart, at most.
MAX_PRIORITIES = 200
#: BullMQ's score of a prioritized job is its priority times this, plus a counter (getPriorityScore).
PRIORITY_SCORE = 0x100000000
#: What is read of jobs that have ended.
_TIMES = ("timestamp", "opts", "ats", "processedOn", "finishedOn", "failedReason")

_METRICS = Lua(loadScript("getMetrics-2.lua"))

# The newest of a state, only the fields that are asked for, long ones cut.
_RECENT = Lua("""
local limit, rows = tonumber(ARGV[3]), {}
for _, id in ipairs(redis.call("ZREVRANGE", KEYS[1] .. ARGV[1], 0, tonumber(ARGV[2]) - 1)) do
  local row = redis.pcall("HMGET", KEYS[1] .. id, unpack(ARGV, 4))
  if not row.err then
    for i = 1, #ARGV - 3 do
      if row[i] and #row[i] > limit then row[i] = string.sub(row[i], 1, limit) end
    end
    rows[#rows + 1] = {id, row}
  end
end
return rows
""")

# The priorities that there are, each by a look at the first score behind the last one's.
_PRIORITIES = Lua("""
local found, from, step = {}, 0, tonumber(ARGV[1])
for _ = 1, tonumber(ARGV[2]) do
  local first = redis.call("ZRANGEBYSCORE", KEYS[1], string.format("%.0f", from), "+inf", "WITHSCORES", "LIMIT", 0, 1)
  if not first[2] then break end
  local priority = math.floor(tonumber(first[2]) / step)
  local last = string.format("%.0f", (priority + 1) * step - 1)
  found[#found + 1] = string.format("%.0f", priority)
  found[#found + 1] = redis.call("ZCOUNT", KEYS[1], string.format("%.0f", priority * step), last)
  from = (priority + 1) * step
end
return found
""")


@dataclass(frozen=True, slots=True)
class Counts:
    """BullMQ's metrics of one kind of ending. Only workers that keep metrics count: ours do, Node's where it asks."""

    total: int = 0
    """All since they are kept."""
    previous_ms: int = 0
    """When the first job ended of the last minute in which any did; 0: none ever has."""
    previous_total: int = 0
    """The total before that job."""
    points: tuple[int, ...] = ()
    """Of the minutes before that one, the last one first."""

    def per_minute(self, now_ms: int, minutes: int) -> list[int]:
        """How many ended in each of the last minutes of the clock, the present one last, which is not over.

        Source: collectMetrics in moveToFinished-14.lua.
        """
        if not self.previous_ms:
            return [0] * minutes
        counted = self.previous_ms // 60_000
        current = max(0, self.total - self.previous_total)
        found = []
        for minute in range(now_ms // 60_000 - minutes + 1, now_ms // 60_000 + 1):
            back = counted - 1 - minute
            point = self.points[back] if 0 <= back < len(self.points) else 0
            found.append(current if minute == counted else point)
        return found


@dataclass(frozen=True, slots=True)
class Endings:
    """How many jobs of a queue have ended one way."""

    metrics: Counts
    kept: tuple[int, ...]
    """Of those that are still kept, how many ended within each span that was asked for."""


class MetricsReader:
    """Reads the metrics of queues under one prefix.

    Every method raises redis.exceptions.RedisError or OSError where Redis is away, or does not permit the look.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self._prefix = prefix
        self._batch = Batch(client, _METRICS, _RECENT, _PRIORITIES)

    async def endings(self, queue: str, *, minutes: int, spans_s: Sequence[int], now_ms: int) -> dict[Ended, Endings]:
        """How many have ended; one round trip.

        Args:
            minutes: of the metrics, back from now.
            spans_s: back from now, seconds, for the jobs that are kept.
        """
        base = f"{self._prefix}:{queue}:"
        asked: list[tuple[Any, ...]] = []
        for ended in ENDED:
            key = f"{base}metrics:{ended}"
            asked.append(_METRICS.call([key, f"{key}:data"], [0, minutes]))
            asked += [("ZCOUNT", base + ended, f"({now_ms - span_s * 1000}", now_ms) for span_s in spans_s]
        replies = await self._batch(asked)
        each = len(spans_s) + 1
        parts = {
            ended: [told(reply) for reply in replies[at * each : (at + 1) * each]] for at, ended in enumerate(ENDED)
        }
        return {ended: Endings(_counts(found[0]), tuple(found[1:])) for ended, found in parts.items()}

    async def recent(self, queue: str, count: int) -> dict[Ended, list[JobView]]:
        """The last jobs of each ending that are kept, with their times, their attempts and their errors; one round
        trip.
        """
        base = f"{self._prefix}:{queue}:"
        replies = await self._batch([_RECENT.call([base], [ended, count, MAX_BYTES, *_TIMES]) for ended in ENDED])
        found: dict[Ended, list[JobView]] = {}
        for ended, reply in zip(ENDED, replies, strict=True):
            rows = ((job_id, dict(zip(_TIMES, row, strict=True))) for job_id, row in told(reply))
            found[ended] = [
                view(queue, job_id, {name: value for name, value in row.items() if value is not None}, state=ended)
                for job_id, row in rows
            ]
        return found

    async def priorities(self, queue: str) -> dict[int, int]:
        """How many jobs wait at each priority, the most urgent first: 0 are those that are not prioritized, as in
        BullMQ's getCountsPerPriority. Of more than 200 priorities the most urgent ones.
        """
        base = f"{self._prefix}:{queue}:"
        script = _PRIORITIES.call([f"{base}prioritized"], [PRIORITY_SCORE, MAX_PRIORITIES])
        waiting, paused, flat = [told(reply) for reply in await self._batch([*_waiting(base), script])]
        found = {int(priority): int(count) for priority, count in zip(flat[::2], flat[1::2], strict=True)}
        return {0: waiting + paused, **found} if waiting + paused else found


def _waiting(base: str) -> list[tuple[Any, ...]]:
    return [("LLEN", f"{base}wait"), ("LLEN", f"{base}paused")]


def _counts(reply: Sequence[Any]) -> Counts:
    (total, previous_ms, previous_total), points, _ = reply
    return Counts(_whole(total), _whole(previous_ms), _whole(previous_total), tuple(_whole(point) for point in points))


def _whole(text: Any) -> int:
    return max(0, int(number(text) or 0))

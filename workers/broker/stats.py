"""The one reader of depths: how many jobs of each queue are in which state, and how long the oldest waits.

Two round trips for any number of queues. Neither looks for keys, and what a producer wrote is not trusted: a key of
another type counts as empty and is named, a row that can't be read is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from workers.broker.backend import now_ms
from workers.broker.numbers import MAX_SAFE, is_number, whole
from workers.broker.refusals import may_pass

#: Jobs at each end of what waits whose age is looked at.
LOOKED_AT = 3
#: The scores of delayed jobs are due times in ms, times this, plus a counter (BullMQ's getDelayedScore).
DELAYED_SCORE = 0x1000
#: An entry of `wait` that is no job but a marker of a BullMQ before 5.
_OLD_MARKER = "0:"
#: The first moment of 2018, ms since the epoch, the year of BullMQ's first release: an earlier time is no job's. Else
#: one row with seconds in place of milliseconds would make its queue half a century late.
EARLIEST_MS = 1_514_764_800_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """One queue at one moment. The counts are of the same round trip, and not of the same instant."""

    queue: str
    waiting: int = 0
    paused: int = 0
    """Jobs in the list where BullMQ before 6 kept those of a paused queue."""
    prioritized: int = 0
    delayed: int = 0
    """Those that are due included."""
    due: int = 0
    """Delayed jobs whose time has come: the next fetch of any worker makes them waiting ones."""
    active: int = 0
    waiting_children: int = 0
    completed: int = 0
    """Those still kept; see `queues.<name>.keep`."""
    failed: int = 0
    """The same."""
    oldest_waiting_s: float | None = None
    """How long ago the oldest job that waits for its first start was due, seconds. Jobs at the ends of the lists are
    looked at, so with `lifo` or several priorities a job in between may be older. None: none waits for its first."""
    limited_s: float = 0.0
    """How long the queue's rate limit lets no job start, seconds."""
    is_paused: bool = False
    """Paused for everyone."""
    problems: tuple[str, ...] = ()
    """What could not be read, and counts as nothing."""

    @property
    def backlog(self) -> int:
        """Jobs that a free worker would start now."""
        return self.waiting + self.paused + self.prioritized + self.due

    @property
    def counts(self) -> Mapping[str, int]:
        """Jobs by state, in the words of BullMQ's getJobCounts."""
        return {
            "waiting": self.waiting,
            "paused": self.paused,
            "prioritized": self.prioritized,
            "delayed": self.delayed,
            "active": self.active,
            "waiting-children": self.waiting_children,
            "completed": self.completed,
            "failed": self.failed,
        }


@dataclass(slots=True)
class _Look:
    """What one queue's part of the first round trip said."""

    queue: str
    base: str
    replies: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def number(self, name: str) -> int:
        value = self.replies.get(name)
        return max(0, value) if isinstance(value, int) else 0

    def ids(self, name: str) -> list[str]:
        return [job_id for job_id in self.replies.get(name) or () if not job_id.startswith(_OLD_MARKER)]

    @property
    def candidates(self) -> list[str]:
        """The jobs whose age is worth a look: those that start next, and those that were added first or last."""
        names = ("wait tail", "wait head", "paused tail", "prioritized first", "prioritized last")
        return list(dict.fromkeys(job_id for name in names for job_id in self.ids(name)))


class StatsReader:
    """Reads the depths of queues.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        rates: of queues with a rate limit in their settings, the jobs that may start in one span.
        clock: ms since the epoch, the clock of BullMQ's timestamps.
    """

    def __init__(
        self,
        client: Redis,
        prefix: str,
        *,
        rates: Mapping[str, int] | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self.rates: Mapping[str, int] = dict(rates or {})
        """See above; may be replaced."""
        self._clock = clock

    async def read(self, queues: Iterable[str]) -> dict[str, QueueStats]:
        """The stats of these queues, by name. A queue that nobody has used is an empty one.

        Raises:
            redis.exceptions.RedisError, OSError: Redis is away, or is not in a state to answer.
        """
        looks = [_Look(queue, f"{self._prefix}:{queue}:") for queue in dict.fromkeys(queues)]
        if not looks:
            return {}
        now = self._clock()
        await self._count(looks, now)
        ages = await self._ages(looks, now)
        return {look.queue: self._stats(look, ages.get(look.queue, []), now) for look in looks}

    async def _count(self, looks: Sequence[_Look], now: int) -> None:
        pipe: Any = self._client.pipeline(transaction=False)
        names: list[tuple[_Look, str]] = []
        for look in looks:
            for name, command in _commands(look.base, now).items():
                pipe.execute_command(*command)
                names.append((look, name))
        for (look, name), reply in zip(names, await pipe.execute(raise_on_error=False), strict=True):
            if isinstance(reply, Exception):
                look.problems.append(f"{name}: {_lasting(reply)}")
            else:
                look.replies[name] = reply

    async def _ages(self, looks: Sequence[_Look], now: int) -> dict[str, list[float]]:
        """The ages in seconds of jobs that wait for their first start, by queue."""
        asked = [(look.queue, f"{look.base}{job_id}") for look in looks for job_id in look.candidates]
        if not asked:
            return {}
        pipe: Any = self._client.pipeline(transaction=False)
        for _, key in asked:
            pipe.hmget(key, "timestamp", "opts", "processedOn")
        found: dict[str, list[float]] = {}
        for (queue, _), row in zip(asked, await pipe.execute(raise_on_error=False), strict=True):
            if isinstance(row, Exception):
                _lasting(row)
                continue
            due = _first_due(*row)
            if due is not None:
                found.setdefault(queue, []).append(max(0.0, (now - due) / 1000))
        return found

    def _stats(self, look: _Look, ages: list[float], now: int) -> QueueStats:
        score = _number((*(look.replies.get("earliest due") or ()), None, None)[1])
        if score is not None and score / DELAYED_SCORE >= EARLIEST_MS:
            ages = [*ages, max(0.0, (now - score / DELAYED_SCORE) / 1000)]
        markers = len(look.replies.get("wait tail") or ()) - len(look.ids("wait tail"))
        is_paused, most = (*(look.replies.get("meta") or ()), None, None)[:2]
        return QueueStats(
            queue=look.queue,
            waiting=max(0, look.number("wait") - markers),
            paused=look.number("paused"),
            prioritized=look.number("prioritized"),
            delayed=look.number("delayed"),
            due=look.number("due"),
            active=look.number("active"),
            waiting_children=look.number("waiting-children"),
            completed=look.number("completed"),
            failed=look.number("failed"),
            oldest_waiting_s=max(ages, default=None),
            limited_s=self._limited_s(look, most),
            is_paused=is_paused is not None,
            problems=tuple(look.problems),
        )

    def _limited_s(self, look: _Look, most: str | None) -> float:
        """As BullMQ's getRateLimitTTL: a limiter's key tells how many have started, and counts from `max` on. The
        limit of the queue's own `meta` outranks a worker's; without any, it was limited by hand.
        """
        limit = _number(most)
        if limit is None:
            limit = self.rates.get(look.queue, MAX_SAFE)
        started = _number(look.replies.get("limiter"))
        left = look.number("limiter left")
        return left / 1000 if started is not None and started >= limit else 0.0


def _commands(base: str, now: int) -> dict[str, tuple[Any, ...]]:
    """What is asked about one queue in the first round trip, by what the answer is called."""
    due = (now + 1) * DELAYED_SCORE - 1  # promoteDelayedJobs, in moveToActive-11.lua
    last = LOOKED_AT - 1
    return {
        "wait": ("LLEN", f"{base}wait"),
        "paused": ("LLEN", f"{base}paused"),
        "active": ("LLEN", f"{base}active"),
        "prioritized": ("ZCARD", f"{base}prioritized"),
        "delayed": ("ZCARD", f"{base}delayed"),
        "due": ("ZCOUNT", f"{base}delayed", "-inf", due),
        "waiting-children": ("ZCARD", f"{base}waiting-children"),
        "completed": ("ZCARD", f"{base}completed"),
        "failed": ("ZCARD", f"{base}failed"),
        "wait tail": ("LRANGE", f"{base}wait", -LOOKED_AT, -1),
        "wait head": ("LRANGE", f"{base}wait", 0, 0),
        "paused tail": ("LRANGE", f"{base}paused", -1, -1),
        "prioritized first": ("ZRANGE", f"{base}prioritized", 0, last),
        "prioritized last": ("ZRANGE", f"{base}prioritized", -1, -1),
        "earliest due": ("ZRANGEBYSCORE", f"{base}delayed", "-inf", due, "WITHSCORES", "LIMIT", 0, 1),
        "meta": ("HMGET", f"{base}meta", "paused", "max"),
        "limiter": ("GET", f"{base}limiter"),
        "limiter left": ("PTTL", f"{base}limiter"),
    }


def _lasting(error: Exception) -> str:
    """What is wrong with one key or one permission; raises what is wrong with the server."""
    if isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and not may_pass(error)):
        return str(error)
    raise error


def _first_due(timestamp: str | None, opts: str | None, processed_on: str | None) -> float | None:
    """When a job was first to be started, ms; None where it was started before, since nothing tells since when it
    waits again, or where the row does not say.
    """
    added = _number(timestamp)
    if added is None or added < EARLIEST_MS or processed_on:
        return None
    try:
        options: Any = json.loads(opts or "{}")
    except (ValueError, RecursionError):
        options = {}
    delay = options.get("delay") if isinstance(options, dict) else None
    # the row's own `delay` is set to 0 when its time has come
    return added + (whole(delay) if is_number(delay) else 0)


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if is_number(number) else None

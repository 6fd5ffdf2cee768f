"""The one reader of depths: how many jobs of each queue are in which state, how long the oldest waits, who works on it.

One round trip for any number of queues. It does not look for keys, and what a producer wrote is not trusted: a key of
another type counts as empty and is named, a row that can't be read is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from workers.broker import stats_script, workers_seen
from workers.broker.backend import now_ms
from workers.broker.batch import Batch, lasting
from workers.broker.numbers import MAX_SAFE
from workers.broker.stats_script import DELAYED_SCORE, EARLIEST_MS, number
from workers.broker.workers_seen import WorkerSeen

__all__ = ["DELAYED_SCORE", "EARLIEST_MS", "QueueStats", "StatsReader", "WorkerSeen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """One queue at one moment."""

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
    workers: tuple[WorkerSeen, ...] | None = None
    """Those of both sides; None: it was not asked, or the server does not tell."""
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
    """What was said about one queue."""

    queue: str
    base: str
    replies: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.problems.append(f"everything: {lasting(reply)}")
        else:
            self.replies, problems = stats_script.read(reply)
            self.problems += problems

    def number(self, name: str) -> int:
        value = self.replies.get(name)
        return max(0, value) if isinstance(value, int) else 0


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
        self._batch = Batch(client, stats_script.LOOK)
        self._prefix = prefix
        self.rates: Mapping[str, int] = dict(rates or {})
        """See above; may be replaced."""
        self._clock = clock

    async def read(self, queues: Iterable[str], *, workers: bool = False) -> dict[str, QueueStats]:
        """The stats of these queues, by name. A queue that nobody has used is an empty one.

        Args:
            workers: see who works on them, too. The server then lists all its clients, which takes it some
                microseconds each.

        Raises:
            redis.exceptions.RedisError, OSError: Redis is away, or is not in a state to answer.
        """
        looks = [_Look(queue, f"{self._prefix}:{queue}:") for queue in dict.fromkeys(queues)]
        if not looks:
            return {}
        now = self._clock()
        commands = [stats_script.command(look.base, now) for look in looks]
        replies = await self._batch([*commands, workers_seen.COMMAND] if workers else commands)
        for look, reply in zip(looks, replies, strict=False):
            look.take(reply)
        seen = self._workers(looks, replies[-1]) if workers else None
        return {look.queue: self._stats(look, now, seen) for look in looks}

    def _workers(self, looks: list[_Look], reply: Any) -> dict[str, tuple[WorkerSeen, ...]] | None:
        if isinstance(reply, Exception):
            for look in looks:
                look.problems.append(f"workers: {lasting(reply)}")
            return None
        return workers_seen.seen(str(reply), self._prefix, [look.queue for look in looks])

    def _stats(self, look: _Look, now: int, seen: dict[str, tuple[WorkerSeen, ...]] | None) -> QueueStats:
        is_paused, most = (*(look.replies.get("meta") or ()), None, None)[:2]
        return QueueStats(
            queue=look.queue,
            waiting=max(0, look.number("wait") - look.number("markers")),
            paused=look.number("paused"),
            prioritized=look.number("prioritized"),
            delayed=look.number("delayed"),
            due=look.number("due"),
            active=look.number("active"),
            waiting_children=look.number("waiting-children"),
            completed=look.number("completed"),
            failed=look.number("failed"),
            oldest_waiting_s=stats_script.oldest_s(look.replies, now),
            limited_s=self._limited_s(look, most),
            is_paused=is_paused is not None,
            workers=None if seen is None else seen.get(look.queue, ()),
            problems=tuple(look.problems),
        )

    def _limited_s(self, look: _Look, most: str | None) -> float:
        """As BullMQ's getRateLimitTTL: a limiter's key tells how many have started, and counts from `max` on. The
        limit of the queue's own `meta` outranks a worker's; without any, it was limited by hand.
        """
        limit = number(most)
        if limit is None:
            limit = self.rates.get(look.queue, MAX_SAFE)
        started = number(look.replies.get("limiter"))
        left = look.number("limiter left")
        return left / 1000 if started is not None and started >= limit else 0.0

"""One queue as its keys in Redis show it, and what is wrong with it once no job is left to be done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

LISTS = ("wait", "active", "paused")
SORTED = ("delayed", "prioritized", "completed", "failed", "waiting-children")
FINAL = ("completed", "failed")
#: BullMQ's other keys of a queue; `stalled` is a set of marks and no place of a job.
OTHERS = frozenset(
    {"meta", "id", "events", "marker", "pc", "limiter", "stalled", "stalled-check", "repeat"}
    | {f"metrics:{state}{part}" for state in FINAL for part in ("", ":data")}
)


@dataclass(frozen=True)
class QueueView:
    """What the keys say."""

    places: dict[str, list[str]] = field(default_factory=dict)
    """Job id → every place that holds it; one place, if all is well."""
    rows: frozenset[str] = frozenset()
    """Ids of the job hashes."""
    locks: frozenset[str] = frozenset()
    """Ids of the jobs that are locked."""
    strays: frozenset[str] = frozenset()
    """Keys that belong to nothing."""

    def count(self, *states: str) -> int:
        """How many jobs are in one of these places."""
        return sum(bool(set(states) & set(found)) for found in self.places.values())

    def problems(self, added: Collection[str]) -> list[str]:
        """What is wrong now that all these jobs should be done; empty when nothing is."""
        found = [f"{job} is in {self.places.get(job) or 'no place'}" for job in added if self._done(job) is None]
        found += [f"{job} was never added" for job in sorted(set(self.places) - set(added))]
        found += [f"{job} has no row" for job in sorted(set(self.places) - self.rows)]
        found += [f"{job} has a row and no place" for job in sorted(self.rows - set(self.places) - set(added))]
        found += [f"{job} is still locked" for job in sorted(self.locks)]
        return found + [f"{key} belongs to nothing" for key in sorted(self.strays)]

    def _done(self, job: str) -> str | None:
        places = self.places.get(job, [])
        return places[0] if len(places) == 1 and places[0] in FINAL else None


async def look(redis: Redis, prefix: str, queue: str) -> QueueView:
    """Read the queue. Job ids must hold no colon. Not atomic: nothing should be under way."""
    base = f"{prefix}:{queue}:"
    keys = {str(key).removeprefix(base) async for key in redis.scan_iter(match=f"{base}*", count=1000)}
    places: dict[str, list[str]] = {}
    for place in (*LISTS, *SORTED):
        ids: Any = await (redis.lrange if place in LISTS else redis.zrange)(base + place, 0, -1)
        for job in ids:
            places.setdefault(str(job), []).append(place)
    rest = keys - OTHERS - set(LISTS) - set(SORTED)
    rows = frozenset(key for key in rest if ":" not in key)
    locks = frozenset(key.removesuffix(":lock") for key in rest if key.endswith(":lock"))
    logs = {f"{row}:logs" for row in rows}
    strays = frozenset(base + key for key in rest - rows - logs if not key.endswith(":lock"))
    return QueueView(places, rows, locks, strays)

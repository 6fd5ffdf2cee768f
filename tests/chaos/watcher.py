"""Reads BullMQ's own event stream while a run goes on, because it keeps ten thousand entries only."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

#: Events a read may bring.
BATCH = 1000
#: Events that say nothing about where a job is.
ASIDE = frozenset({"added", "progress", "drained"})


class Watcher:
    """How often each event was written for each job."""

    def __init__(self, url: str, prefix: str, queue: str) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Job id → event → times."""
        self.runs: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """Job id → when it was active, from and to, seconds since the epoch; the last may have no end (infinite)."""
        self._url = url
        self._key = f"{prefix}:{queue}:events"
        self._last = "0-0"

    def of(self, event: str) -> Counter[str]:
        """Job id → times of this event; none that never had it."""
        return Counter({job: events[event] for job, events in self.counts.items() if events[event]})

    async def run(self) -> None:
        """Read for ever, from the beginning, through restarts of the server; the owner cancels it."""
        async with Redis.from_url(self._url, decode_responses=True, protocol=2) as client:
            while True:
                try:
                    await self._read(client, block_ms=200)
                except (RedisError, OSError):
                    await asyncio.sleep(0.1)

    async def finish(self) -> None:
        """Read what is left. Only after `run` was cancelled."""
        async with Redis.from_url(self._url, decode_responses=True, protocol=2) as client:
            while await self._read(client, block_ms=1):
                pass

    async def _read(self, client: Redis, block_ms: int) -> int:
        reply: Any = await client.xread({self._key: self._last}, count=BATCH, block=block_ms)
        entries = reply[0][1] if reply else []
        for entry_id, fields in entries:
            self._last = entry_id
            job, event = fields.get("jobId", ""), fields["event"]
            self.counts[job][event] += 1
            self._note(job, event, int(entry_id.partition("-")[0]) / 1000)
        return len(entries)

    def _note(self, job: str, event: str, at: float) -> None:
        if event in ASIDE:
            return
        runs = self.runs[job]
        if runs and runs[-1][1] == float("inf"):
            runs[-1] = (runs[-1][0], at)
        if event == "active":
            runs.append((at, float("inf")))

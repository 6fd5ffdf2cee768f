"""The package's Worker with its defaults."""

from __future__ import annotations

import asyncio
from typing import Any

from bullmq import Worker

from tests.benchmarks.contest.kind import LOCK_MS, Kind


class Stock(Kind):
    """`bullmq.Worker` with a processor and a `completed` listener."""

    async def open(self, queue: str, slots: int) -> None:
        options = {"connection": self.url, "concurrency": slots, "lockDuration": LOCK_MS, "autorun": False}
        self._worker = Worker(queue, self._process, options)
        self._worker.on("completed", lambda job, result: self.tally.completed())
        self._running = asyncio.ensure_future(self._worker.run())

    async def close(self) -> None:
        await self._worker.close()
        await self._running

    async def _process(self, job: Any, token: str) -> None:
        await self.tally.work(job.id)

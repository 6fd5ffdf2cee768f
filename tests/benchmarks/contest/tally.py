"""What one worker did with its jobs, counted inside the process that runs it."""

from __future__ import annotations

import asyncio
import time


class Tally:
    """The jobs of one opened worker.

    Args:
        work_s: how long each job takes; 0: it does not even yield.
    """

    def __init__(self, work_s: float) -> None:
        self._work_s = work_s
        self._wanted = 0
        self._enough = asyncio.Event()
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)
        self.starts: dict[str, float] = {}
        """When each job's processor was called, seconds since the epoch; kept only by `note_starts`."""
        self.note_starts = False
        self.done = 0

    async def work(self, job_id: str) -> None:
        """The processor."""
        if self._first is None:
            self._first = (time.perf_counter(), time.process_time())
        if self.note_starts:
            self.starts[job_id] = time.time()
        if self._work_s:
            await asyncio.sleep(self._work_s)

    def completed(self) -> None:
        """The worker told of a completion."""
        self.done += 1
        if self.done == self._wanted:
            self._last = (time.perf_counter(), time.process_time())
            self._enough.set()

    async def until(self, jobs: int) -> dict[str, float]:
        """Seconds, and seconds of this process's CPU, from the first start to the completion of so many jobs."""
        self._wanted = jobs
        if self.done < jobs:
            self._enough.clear()
            await self._enough.wait()
        assert self._first is not None
        return {"seconds": self._last[0] - self._first[0], "cpu_s": self._last[1] - self._first[1]}

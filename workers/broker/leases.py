"""Renewal of the locks of all jobs that one worker holds: from the fetch until the ending is in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from workers.broker.backend import FleetBackend
from workers.broker.hold import Hold, Interrupt


class Leases:
    """One batched extendLocks for all held jobs, three times within a lock's life.

    The loop goes on while the worker drains: a job that runs on must not be started a second time.
    """

    def __init__(
        self, backend: FleetBackend, lock_ms: int, on_error: Callable[[BaseException, str, str], None]
    ) -> None:
        self._backend = backend
        self._lock_ms = lock_ms
        self._on_error = on_error
        self._holds: dict[str, Hold] = {}

    def __len__(self) -> int:
        return len(self._holds)

    def add(self, hold: Hold) -> None:
        """Renew this job's lock from now on."""
        self._holds[hold.job.id] = hold

    def remove(self, hold: Hold) -> None:
        """Stop renewing; the ending is written or the job is lost."""
        if self._holds.get(hold.job.id) is hold:
            del self._holds[hold.job.id]

    def ask_back(self, interrupt: Interrupt) -> None:
        """Interrupt every held job."""
        for hold in self._holds.values():
            hold.ask_back(interrupt)

    async def run(self) -> None:
        """Renew for ever; the owner cancels it."""
        while True:
            await asyncio.sleep(self._lock_ms / 3000)
            try:
                await self.renew()
            except Exception as error:
                self._on_error(error, "renew", "")

    async def renew(self) -> None:
        """Extend the locks of the jobs that are held now, and tell those whose lock is gone."""
        holds = tuple(self._holds.values())
        if not holds:
            return
        ids, tokens = [h.job.id for h in holds], [h.job.token for h in holds]
        refused = set(await self._backend.extendLocks(ids, tokens, self._lock_ms) or ())
        for hold in holds:
            if hold.job.id in refused and self._holds.get(hold.job.id) is hold:
                self._on_error(LostLockError(hold.job.id), "renew", hold.job.id)
                hold.ask_back(Interrupt("lock_lost", "the job's lock expired or was taken", time.monotonic()))


class LostLockError(Exception):
    """A job's lock could not be renewed: another worker may have the job already."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lock of job {job_id} is gone")

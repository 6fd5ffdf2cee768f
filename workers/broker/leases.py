"""The jobs that one worker holds, from the fetch until the ending is in Redis, drains included."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial

from workers.broker.hold import Hold, Interrupt
from workers.broker.lease_table import Lease
from workers.broker.renewer import Renewer


class LostLockError(Exception):
    """A job's lock could not be renewed: another worker may have the job already."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lock of job {job_id} is gone")


class Leases:
    """One queue's part of the process's renewer.

    Args:
        queue: its name.
        lock_ms: the life of a lock.
        on_error: told of a lost lock: the error, where, the job's id.
    """

    def __init__(
        self, queue: str, lock_ms: int, renewer: Renewer, on_error: Callable[[BaseException, str, str], None]
    ) -> None:
        self._queue = queue
        self._lock_ms = lock_ms
        self._renewer = renewer
        self._on_error = on_error
        self._holds: dict[Hold, int] = {}

    def __len__(self) -> int:
        return len(self._holds)

    @property
    def holds(self) -> Collection[Hold]:
        """The jobs that are held now."""
        return self._holds.keys()

    def add(self, hold: Hold) -> None:
        """Renew this job's lock from now on, without end until the execution says when its last rung is."""
        lease = Lease(self._queue, hold.job.id, hold.job.token, self._lock_ms, fence=max(0, hold.job.fence))
        key = self._renewer.hold(lease, partial(self._lost, hold))
        self._holds[hold] = key
        hold.on_bound = partial(self._renewer.bound, key)

    def remove(self, hold: Hold) -> None:
        """Stop renewing; the ending is written or the job is lost."""
        key = self._holds.pop(hold, None)
        if key is not None:
            self._renewer.release(key)

    def ask_back(self, interrupt: Interrupt) -> None:
        """Interrupt every held job."""
        for hold in self._holds:
            hold.ask_back(interrupt)

    def _lost(self, hold: Hold) -> None:
        if hold in self._holds:
            self._on_error(LostLockError(hold.job.id), "renew", hold.job.id)
        hold.ask_back(Interrupt("lock_lost", "the job's lock expired or was taken", time.monotonic()))

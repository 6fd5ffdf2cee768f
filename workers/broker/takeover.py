"""The supervisor's side of the leases: renews for a process that can't, and gives back what a dead one held.

A process whose thread is silent but that lives (the GIL is held, SIGSTOP) keeps its jobs until their last rung, and
their locks until it is killed for it. What a dead process held waits again at once (give_back.py), instead of after
the lock's life and two stalled checks; a job that kills its process again and again fails in the end (deaths.py).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from workers.broker.deaths import Bounds
from workers.broker.give_back import GiveBack
from workers.broker.lease_table import KEPT_S, LeaseTable
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.renewer import RENEW_AT, renew

log = logging.getLogger(__name__)

#: Silence after which the supervisor renews, seconds; a third of the lock's life where that is shorter. The thread
#: beats at least twice a second, and twelve times within a lock's life.
SILENT_S = 1.5
#: Between two looks at the tables, seconds.
LOOK_S = 0.1


def table_path(directory: Path, pid: int | str) -> Path:
    """The lease table of the process with this id."""
    return directory / f"leases-{pid}.map"


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """The answer of `Takeover.health`."""

    ok: bool
    detail: str


class Takeover:
    """Watches the lease tables of the supervisor's children. A Service.

    Args:
        client: commands; closed on stop.
        prefix: BullMQ's key prefix.
        directory: where each child keeps its table, see `table_path`.
        bounds: of each queue.
        on_poison: told the queue and the id of a job that is not run any more.
        reconnect: the waits between tries while Redis is away.
    """

    name = "leases"

    def __init__(
        self,
        client: Redis,
        prefix: str,
        directory: Path,
        bounds: Mapping[str, Bounds],
        on_poison: Callable[[str, str], None] = lambda queue, job_id: None,
        reconnect: Reconnect = RECONNECT,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._directory = directory
        self._back = GiveBack(client, prefix, bounds, on_poison, reconnect)
        self._tables: dict[Path, LeaseTable] = {}
        self._renewed: dict[Path, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._giving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to watch."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="lease-takeover")

    async def stop(self, *, by: float) -> None:
        """Stop watching, once the jobs of the dead are given back or at `by` (monotonic seconds), then disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        if self._giving:
            _, late = await asyncio.wait(self._giving, timeout=max(0.0, by - time.monotonic()))
            for task in late:
                task.cancel()
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        await self._client.aclose()

    async def wait(self) -> None:
        """Return after `stop`."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def health(self) -> WatchHealth:
        """Whether it watches. No I/O."""
        watching = self._task is not None and not self._task.done()
        return WatchHealth(watching, f"{len(self._tables)} lease tables" if watching else "not watching")

    def bound(self, bounds: Mapping[str, Bounds]) -> None:
        """Judge by these from now on."""
        self._back.bounds = dict(bounds)

    def busy_until(self, pid: int) -> float | None:
        """Monotonic seconds until which one of this process's jobs may run; None: it holds none. Infinite: it holds
        some of which none runs. A lease without end is that of a job that is about to start or to end, which nothing
        is to be waited for: it must not outvote the others.
        """
        table = self._table(table_path(self._directory, pid))
        leases = table.leases() if table is not None else []
        ends = [lease.until for lease in leases if math.isfinite(lease.until)]
        return max(ends, default=math.inf if leases else None)

    def died(self, pid: int, notice: str | None) -> None:
        """This process has ended: give back what it held.

        Args:
            notice: how it died. None: it was asked to end, which is not for its jobs to answer for.
        """
        path = table_path(self._directory, pid)
        table = self._table(path)
        self._tables.pop(path, None)
        self._renewed.pop(path, None)
        if table is None:
            return
        if leases := table.leases():
            task = asyncio.create_task(self._back.all(leases, notice))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)
        table.close()
        path.unlink(missing_ok=True)

    def _table(self, path: Path) -> LeaseTable | None:
        table = self._tables.get(path) or LeaseTable.open(path)
        if table is not None:
            self._tables[path] = table
        return table

    async def _watch(self) -> None:
        while True:
            for path in sorted(self._directory.glob(table_path(self._directory, "*").name)):
                try:
                    await self._look(path)
                except Exception as error:
                    log.warning("the locks of a silent process can't be renewed: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _look(self, path: Path) -> None:
        table = self._table(path)
        if table is None:
            return
        now = time.monotonic()
        held = [lease for lease in table.leases() if now < lease.until + KEPT_S]
        shortest_s = min((lease.lock_ms / 1000 for lease in held), default=0.0)
        if not held or table.silence_s() <= min(SILENT_S, shortest_s * RENEW_AT):
            self._renewed.pop(path, None)
            return
        if now - self._renewed.get(path, float("-inf")) < shortest_s * RENEW_AT:
            return
        if path not in self._renewed:
            log.warning("process %s is silent; renewing the locks of its %d jobs", path.stem, len(held))
        self._renewed[path] = now
        await renew(self._client, self._prefix, held)

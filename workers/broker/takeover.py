"""The supervisor's side of the leases: renews for a process that can't, and gives back what a dead one held.

A process whose thread is silent but that lives (the GIL is held, SIGSTOP) keeps its jobs until their last rung. What
a dead process held goes to the front of `wait` at once, instead of after the lock's life and two stalled checks; it
counts as a stall, so a job that kills its process fails in the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bullmq.queue_keys import QueueKeys
from bullmq.redis_connection import loadScript
from redis.asyncio import Redis

from workers.broker.lease_table import Lease, LeaseTable
from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.renewer import RENEW_AT, renew

log = logging.getLogger(__name__)

#: Silence after which the supervisor renews, seconds; a third of the lock's life where that is shorter. The thread
#: beats at least twice a second, and twelve times within a lock's life.
SILENT_S = 1.5
#: Between two looks at the tables, seconds.
LOOK_S = 0.1
#: Tries to give back a dead process's job while Redis is away; the stalled check has it after that.
TRIES = 20

# As moveStalledJobsToWait-9.lua counts a stall, for a job whose lock still is the dead process's.
_COUNT_STALL = """
if redis.call("GET", KEYS[1] .. ":lock") ~= ARGV[2] then return 0 end
local stalls = redis.call("HINCRBY", KEYS[1], "stc", 1)
if stalls > tonumber(ARGV[3]) and redis.call("HEXISTS", KEYS[1], "rjk") == 0 then
  redis.call("HSET", KEYS[1], "defa", "job stalled more than allowable limit")
end
redis.call("XADD", KEYS[2], "*", "event", "stalled", "jobId", ARGV[1])
return stalls
"""


def table_path(directory: Path, pid: int | str) -> Path:
    """The lease table of the process with this id."""
    return directory / f"leases-{pid}.map"


async def give_back(client: Redis, prefix: str, lease: Lease, max_stalls: int) -> bool:
    """Count a stall and move the job to the front of `wait`, in one transaction. False: it was not ours any more.

    Raises:
        redis.exceptions.RedisError, OSError: nothing is known; trying again is safe, the lock decides.
    """
    names = QueueKeys(prefix)
    keys = names.getKeys(lease.queue)
    job = names.toKey(lease.queue, lease.job_id)
    order = ("active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events")
    async with client.pipeline(transaction=True) as pipe:
        pipe.eval(_COUNT_STALL, 2, job, keys["events"], lease.job_id, lease.token, max_stalls)
        move = [keys[name] for name in order]
        pipe.eval(loadScript("moveJobFromActiveToWait-9.lua"), len(move), *move, lease.job_id, lease.token, job)
        counted, _ = await pipe.execute()
    return int(counted) > 0


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
        max_stalls: of each queue.
        reconnect: the waits between tries while Redis is away.
    """

    name = "leases"

    def __init__(
        self,
        client: Redis,
        prefix: str,
        directory: Path,
        max_stalls: Mapping[str, int],
        reconnect: Reconnect = RECONNECT,
    ) -> None:
        self._client = client
        self._reconnect = reconnect
        self._prefix = prefix
        self._directory = directory
        self._max_stalls = max_stalls
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

    def died(self, pid: int) -> None:
        """This process is dead: give back what it held."""
        path = table_path(self._directory, pid)
        table = self._tables.pop(path, None) or LeaseTable.open(path)
        self._renewed.pop(path, None)
        if table is None:
            return
        for lease in table.leases():
            task = asyncio.create_task(self._give_back(lease))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)
        table.close()
        path.unlink(missing_ok=True)

    async def _give_back(self, lease: Lease) -> None:
        for failures in range(1, TRIES + 1):
            try:
                given = await give_back(self._client, self._prefix, lease, self._max_stalls.get(lease.queue, 1))
            except Exception as error:
                log.warning("job %s of a dead process can't be given back yet: %s", lease.job_id, error)
                await asyncio.sleep(self._reconnect.wait_s(failures))
            else:
                if given:
                    log.warning(
                        "job %s of %s was held by a process that died; it waits again", lease.job_id, lease.queue
                    )
                return

    async def _watch(self) -> None:
        while True:
            for path in sorted(self._directory.glob(table_path(self._directory, "*").name)):
                try:
                    await self._look(path)
                except Exception as error:
                    log.warning("the locks of a silent process can't be renewed: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _look(self, path: Path) -> None:
        table = self._tables.get(path) or LeaseTable.open(path)
        if table is None:
            return
        self._tables[path] = table
        now = time.monotonic()
        held = [lease for lease in table.leases() if now < lease.until]
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

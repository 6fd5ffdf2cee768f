"""What a run writes to its job before the end: its progress and the lines of its log, only while the job is its own.

These are BullMQ's own scripts behind one more line. BullMQ lets anybody write them; a run that has lost its lock, or
goes on although it is over, would overwrite what the next run of the job says.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from bullmq.redis_connection import loadScript

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.checkpoints import NotOursError

# The token belongs to the slot, which may run the job again; `ats` tells one run from the next.
_FENCE = """
if redis.call("GET", KEYS[{lock}]) ~= ARGV[{token}] or redis.call("HGET", KEYS[1], "ats") ~= ARGV[{fence}] then
  return -1
end
"""
#: BullMQ's scripts; the lock's key follows their KEYS, the token and `ats` follow their ARGV.
PROGRESS, LOG = "updateProgress-3.lua", "addLog-2.lua"


async def progress(backend: FleetBackend, job: Activation, value: Any) -> None:
    """BullMQ's updateProgress.

    Args:
        value: JSON, see `progress.check`.

    Raises:
        NotOursError: the job is not this run's any more; nothing was written.
        redis.exceptions.RedisError, OSError: it was not stored, or is not known to be.
    """
    row = backend.toKey(job.id)
    keys = [row, backend.keys["events"], backend.keys["meta"], f"{row}:lock"]
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    script = backend.conn.register_script(_fenced(PROGRESS, lock=4, token=3, fence=4))
    if await script(keys=keys, args=[job.id, text, job.token, job.fence]) < 0:
        raise NotOursError(job.id, "the progress")


async def log(backend: FleetBackend, job: Activation, line: str, keep: int) -> None:
    """BullMQ's addLog; of more than `keep` lines the oldest are dropped, 0: none. Raises like `progress`."""
    row = backend.toKey(job.id)
    keys, args = [row, f"{row}:logs", f"{row}:lock"], [job.id, line, str(keep) if keep else "", job.token, job.fence]
    script = backend.conn.register_script(_fenced(LOG, lock=3, token=4, fence=5))
    if await script(keys=keys, args=args) < 0:
        raise NotOursError(job.id, "a line of the log")


@cache
def _fenced(name: str, *, lock: int, token: int, fence: int) -> str:
    text: str = loadScript(name)
    return _FENCE.format(lock=lock, token=token, fence=fence) + text

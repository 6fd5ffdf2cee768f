"""Deaths of processes, counted for each job that they ran: a job that kills its process again and again is poison.

The count is the job's own, and BullMQ's `stc` is left alone: a stall says that a worker was lost, a death that its
process ended while the job ran. Stalls that BullMQ finds are not counted here, nor is what is handed back. At the
limit the job is told to fail by BullMQ's deferred failure, the field `defa`: whichever worker takes it next, Node's
too, fails it without running it (as after moveStalledJobsToWait-9.lua).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from bullmq.queue_keys import QueueKeys
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from workers.broker import keys
from workers.broker.lease_table import Lease

log = logging.getLogger(__name__)

#: How long a count is kept after the last death.
KEPT_MS = 7 * 86_400_000

# Whether a job is still the dead process's. A lock that has expired is taken again where nobody else has had the job
# since: it is active still, and was started as often as then. LPOS is of Redis 6.0.6; before, such a job stalls.
_HELD = """local function held(job, active, id, token, fence, lock_ms)
  local lock = redis.call("GET", job .. ":lock")
  if lock then return lock == token end
  if redis.call("HGET", job, "ats") ~= fence then return false end
  if type(redis.pcall("LPOS", active, id)) ~= "number" then return false end
  redis.call("SET", job .. ":lock", token, "PX", lock_ms)
  return true
end
"""
_STILL = f"""{_HELD}
return held(KEYS[1], KEYS[2], unpack(ARGV)) and 1 or 0
"""

# `job` is the row's timestamp, since an id may be given again; `token`, which belongs to one slot of one process, makes
# counting twice count once. At the limit the count begins anew, for a job that somebody retries.
_COUNT = f"""{_HELD}
if not held(KEYS[1], KEYS[4], ARGV[1], ARGV[2], ARGV[6], ARGV[7]) then return {{0, 0, 0}} end
local made = redis.call("HGET", KEYS[1], "timestamp")
if not made then return {{0, 0, 0}} end
local known = redis.call("HMGET", KEYS[3], "job", "token", "count", "poison")
if known[1] == made and known[2] == ARGV[2] then
  return {{1, tonumber(known[3]) or 0, tonumber(known[4]) or 0}}
end
local count = 1
if known[1] == made then count = (tonumber(known[3]) or 0) + 1 end
local poison = 0
if count >= tonumber(ARGV[3]) then
  local times = count == 1 and "once" or count .. " times"
  redis.call("HSET", KEYS[1], "defa", "poison: its process died " .. times .. " while it ran (last: " .. ARGV[4] .. ")")
  count, poison = 0, 1
end
redis.call("DEL", KEYS[3])
redis.call("HSET", KEYS[3], "job", made, "token", ARGV[2], "count", count, "poison", poison)
redis.call("PEXPIRE", KEYS[3], ARGV[5])
redis.call("XADD", KEYS[2], "*", "event", "stalled", "jobId", ARGV[1])
return {{1, count, poison}}
"""

# Where our own keys are not permitted: as moveStalledJobsToWait-9.lua counts a stall.
_COUNT_STALL = f"""{_HELD}
if not held(KEYS[1], KEYS[3], ARGV[1], ARGV[2], ARGV[4], ARGV[5]) then return {{0, 0, 0}} end
local stalls = redis.call("HINCRBY", KEYS[1], "stc", 1)
if stalls > tonumber(ARGV[3]) and redis.call("HEXISTS", KEYS[1], "rjk") == 0 then
  redis.call("HSET", KEYS[1], "defa", "job stalled more than allowable limit")
end
redis.call("XADD", KEYS[2], "*", "event", "stalled", "jobId", ARGV[1])
return {{1, 0, 0}}
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a job of one queue may come to."""

    deaths: int = 3
    """Deaths of its process, from which it is poison."""
    stalls: int = 1
    """Stalls; they count instead of deaths where the Redis user may not use Fleet's own keys."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a death means for one job."""

    held: bool
    """It still was the dead process's."""
    deaths: int = 0
    """So far; 0 again once it is poison."""
    poison: bool = False
    """It was told to fail."""
    last_chance: bool = False
    """With one more death it is poison."""


class Deaths:
    """Counts.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._permitted = True

    async def count(self, lease: Lease, notice: str, bounds: Bounds) -> Counted:
        """Count the death of the process that held this job; the same death is counted once.

        Args:
            notice: how it died, for the job's reason.

        Raises:
            redis.exceptions.RedisError, OSError: nothing is known; trying again is safe, the lock and the token decide.
        """
        names = QueueKeys(self._prefix)
        job, events = names.toKey(lease.queue, lease.job_id), names.toKey(lease.queue, "events")
        active = names.toKey(lease.queue, "active")
        if self._permitted:
            own = keys.deaths(self._prefix, lease.queue, lease.job_id)
            try:
                counted = await self._eval(
                    _COUNT,
                    [job, events, own, active],
                    lease.job_id,
                    lease.token,
                    bounds.deaths,
                    notice,
                    KEPT_MS,
                    lease.fence,
                    lease.lock_ms,
                )
                return replace(counted, last_chance=0 < counted.deaths == bounds.deaths - 1)
            except NoPermissionError as error:
                log.warning("process deaths can't be counted for each job and count as stalls instead: %s", error)
                self._permitted = False
        args = (lease.job_id, lease.token, bounds.stalls, lease.fence, lease.lock_ms)
        return await self._eval(_COUNT_STALL, [job, events, active], *args)

    async def still(self, lease: Lease) -> bool:
        """Whether the job is still the ended process's, its lock too.

        Raises:
            redis.exceptions.RedisError, OSError: nothing is known; trying again is safe.
        """
        names = QueueKeys(self._prefix)
        keys_of = [names.toKey(lease.queue, lease.job_id), names.toKey(lease.queue, "active")]
        args: list[Any] = [lease.job_id, lease.token, lease.fence, lease.lock_ms]
        return bool(await self._client.register_script(_STILL)(keys=keys_of, args=args))

    async def _eval(self, script: str, names: list[str], *args: Any) -> Counted:
        held, deaths, poison = await self._client.register_script(script)(keys=names, args=list(args))
        return Counted(bool(held), int(deaths), bool(poison))

"""Lua beyond what the `bullmq` package registers: scripts that it ships but doesn't load, and some of ours."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from bullmq.redis_connection import loadScript
from redis.asyncio import Redis

from workers.broker.numbers import MAX_SAFE

#: What the package ships and does not register.
MOVE_TO_WAIT, LIMIT_LEFT = "moveJobFromActiveToWait-9.lua", "getRateLimitTtl-2.lua"


class Script(Protocol):
    """A registered script: EVALSHA, loading it first where the server does not know it."""

    def __call__(self, keys: list[str], args: list[Any]) -> Awaitable[Any]: ...


# moveToActive adds 1 to `ats`. A job that is handed back did not start, so the start is taken back, before the job is:
# while its lock is ours nobody else can start it. Sent twice it takes back once.
_UNSPEND_START = """
if redis.call("GET", KEYS[1] .. ":lock") == ARGV[2] and redis.call("HGET", KEYS[1], "ats") == ARGV[1] then
  return redis.call("HINCRBY", KEYS[1], "ats", -1)
end
return nil
"""

# BullMQ's own limit by hand is `SET limiter 9007199254740991 PX ms`, as many jobs as no maximum allows. Of two that
# are set, the longer holds: of ten jobs that are refused at once, the last one need not know best.
_LIMIT = f"""
if (tonumber(redis.call("GET", KEYS[1])) or 0) < {MAX_SAFE} or redis.call("PTTL", KEYS[1]) < tonumber(ARGV[1]) then
  redis.call("SET", KEYS[1], "{MAX_SAFE}", "PX", ARGV[1])
end
return redis.call("PTTL", KEYS[1])
"""

# A slot of a queue whose own concurrency is limited became free, and the worker that leaves it fetches no more. Those
# that found the queue full wait for a marker, which no script of BullMQ's sets then.
_WAKE = """
if redis.call("HEXISTS", KEYS[1], "concurrency") == 1 then
  return redis.call("ZADD", KEYS[2], 0, "0")
end
return nil
"""


# A row with fields that a script would break on after it has released the lock: the job would be in no state at all.
_MEND = """
if redis.call("GET", KEYS[1] .. ":lock") ~= ARGV[1] then return 0 end
for i = 2, #ARGV do
  if ARGV[i] == "atm" then redis.call("HSET", KEYS[1], "atm", 0) else redis.call("HDEL", KEYS[1], ARGV[i]) end
end
return 1
"""


class Scripts:
    """The scripts of one client."""

    def __init__(self, client: Redis) -> None:
        self.move_to_wait: Script = client.register_script(loadScript(MOVE_TO_WAIT))
        """Front of `wait`, lock released. KEYS and ARGV: see the Lua file's head."""
        self.unspend_start: Script = client.register_script(_UNSPEND_START)
        """KEYS: the job. ARGV: the `ats` of the start that is taken back, the lock's token."""
        self.limit: Script = client.register_script(_LIMIT)
        """Limit the queue by hand. KEYS: limiter. ARGV: ms. Returns what is left of the limit, ms."""
        self.limit_left: Script = client.register_script(loadScript(LIMIT_LEFT))
        """KEYS: limiter, meta. ARGV: starts from which the queue counts as limited. Returns ms, 0 for no limit."""
        self.wake: Script = client.register_script(_WAKE)
        """KEYS: meta, marker."""
        self.mend: Script = client.register_script(_MEND)
        """KEYS: the job. ARGV: the lock's token, then the fields to mend."""

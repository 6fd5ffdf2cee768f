"""Queues with very many jobs, written by the server itself: a producer would take minutes."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

#: Jobs that one call writes.
CHUNK = 20_000

# Rows and places as BullMQ's scripts leave them (storeJob, addJobInTargetList, moveToFinished, addDelayedJob).
_FILL = """
local base, state, first, count, now = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lists = {waiting = "wait", active = "active", paused = "paused"}
for number = first, first + count - 1 do
  local id, at = tostring(number), string.format("%.0f", now + number)
  local data = string.format(ARGV[5], number, number % 1000)
  redis.call("HSET", base .. id, "name", "n", "data", data, "opts", ARGV[6], "timestamp", at, "delay", 0, "priority", 0)
  if lists[state] then
    redis.call("LPUSH", base .. lists[state], id)
  elseif state == "completed" or state == "failed" then
    redis.call("HSET", base .. id, "processedOn", at, "finishedOn", at, "ats", 1, "atm", 1)
    if state == "failed" then redis.call("HSET", base .. id, "failedReason", "no " .. number % 7) end
    redis.call("ZADD", base .. state, at, id)
  elseif state == "delayed" then
    redis.call("ZADD", base .. state, string.format("%.0f", (now + number) * 4096), id)
  elseif state == "prioritized" then
    redis.call("ZADD", base .. state, string.format("%.0f", (number % 5 + 1) * 4294967296 + number), id)
  else
    redis.call("ZADD", base .. state, at, id)
  end
end
redis.call("HSETNX", base .. "meta", "opts.maxLenEvents", 10000)
return count
"""

DATA = '{"type":"email-send","id":"x%d","userId":"u%d","to":["someone@example.com"],"subject":"Hello","text":"Hi"}'
OPTS = '{"attempts":5,"backoff":{"type":"exponential","delay":10000}}'


async def seed(
    redis: Redis, prefix: str, queue: str, state: str, count: int, *, first: int = 1, now_ms: int, data: str = DATA
) -> None:
    """Put so many jobs into a state, with ids from `first` on; the higher the id, the later it was added, by a ms each.

    Args:
        now_ms: when the job of number 0 would have been added and, where it is so, have ended or be due.
        data: two %d in it are the id and its last three digits.
    """
    client: Any = redis
    for start in range(first, first + count, CHUNK):
        number = min(CHUNK, first + count - start)
        await client.eval(_FILL, 1, f"{prefix}:{queue}:", state, start, number, now_ms, data, OPTS)

"""The Lua that looks at one queue, in one step: 170 commands for twelve queues cost the client several times what
twelve scripts do, and so what is said of a queue is of one instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from workers.broker.batch import Command, Lua
from workers.broker.oldest import DELAYED_SCORE
from workers.broker.refusals import is_denied, may_pass

#: Jobs at each end of what waits whose age is looked at.
LOOKED_AT = 3
#: Bytes of the options beyond which a job's delay is not looked for.
MAX_OPTS = 64 * 1024
#: What is asked, in the order in which it is answered.
NAMES = (
    *("wait", "paused", "active", "prioritized", "delayed", "waiting-children", "completed", "failed", "due"),
    *("earliest due", "meta", "limiter", "limiter left", "markers", "ends"),
)

# What can't be answered (a key of another type, a command that is not permitted) is named and counts as nothing. `ends`
# are the rows of the jobs that start next, and of those that were added first or last. An entry `0:…` of a list is no
# job but a marker of a BullMQ before 5, which counts as one in LLEN.
LOOK = Lua("""
local base, due, count, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local found, problems, rows, seen, markers = {}, {}, {}, {}, 0

local function ask(name, ...)
  local reply = redis.pcall(...)
  if type(reply) == "table" and reply.err then
    problems[#problems + 1] = name
    problems[#problems + 1] = reply.err
    reply = false
  end
  found[#found + 1] = reply
end

local function look(ids, is_tail)
  if type(ids) ~= "table" or ids.err then return end
  for i = 1, #ids do
    local id = ids[i]
    if string.sub(id, 1, 2) == "0:" then
      if is_tail then markers = markers + 1 end
    elseif not seen[id] then
      seen[id] = true
      local row = redis.pcall("HMGET", base .. id, "timestamp", "opts", "processedOn")
      if not row.err then
        if row[2] and #row[2] > limit then row[2] = false end
        rows[#rows + 1] = row
      end
    end
  end
end

for _, name in ipairs({"wait", "paused", "active"}) do ask(name, "LLEN", base .. name) end
for _, name in ipairs({"prioritized", "delayed", "waiting-children", "completed", "failed"}) do
  ask(name, "ZCARD", base .. name)
end
ask("due", "ZCOUNT", base .. "delayed", "-inf", due)
ask("earliest due", "ZRANGEBYSCORE", base .. "delayed", "-inf", due, "WITHSCORES", "LIMIT", 0, 1)
ask("meta", "HMGET", base .. "meta", "paused", "max")
ask("limiter", "GET", base .. "limiter")
ask("limiter left", "PTTL", base .. "limiter")
look(redis.pcall("LRANGE", base .. "wait", -count, -1), true)
look(redis.pcall("LRANGE", base .. "wait", 0, 0))
look(redis.pcall("LRANGE", base .. "paused", -1, -1))
look(redis.pcall("ZRANGE", base .. "prioritized", 0, count - 1))
look(redis.pcall("ZRANGE", base .. "prioritized", -1, -1))
found[#found + 1] = markers
found[#found + 1] = rows
return {problems, found}
""")


def command(base: str, now_ms: int) -> Command:
    """What is asked about one queue.

    Args:
        base: what the queue's keys begin with.
    """
    due = (now_ms + 1) * DELAYED_SCORE - 1  # promoteDelayedJobs, in moveToActive-11.lua
    return LOOK.call([base], [due, LOOKED_AT, MAX_OPTS])


def read(reply: Sequence[Any]) -> tuple[dict[str, Any], list[str]]:
    """The answers by name, without those that are none, and what could not be answered.

    Raises:
        redis.exceptions.ResponseError: because the server is not in a state to.
    """
    problems, found = reply
    told = []
    for name, text in zip(problems[::2], problems[1::2], strict=True):
        text = text.removeprefix("ERR ")
        error = ResponseError(text)
        if may_pass(error) and not is_denied(error):
            raise error
        told.append(f"{name}: {text}")
    return {name: value for name, value in zip(NAMES, found, strict=True) if value is not None}, told

"""The Lua that looks at one queue, in one step: 170 commands for twelve queues cost the client several times what
twelve scripts do, and so what is said of a queue is of one instant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from workers.broker.batch import Command, Lua
from workers.broker.numbers import MAX_SAFE, is_number
from workers.broker.refusals import is_denied, may_pass

#: The scores of delayed jobs are due times in ms, times this, plus a counter (BullMQ's getDelayedScore).
DELAYED_SCORE = 0x1000
#: The first moment of 2018, ms since the epoch, the year of BullMQ's first release: an earlier time is no job's. Else
#: one row with seconds in place of milliseconds would make its queue half a century late.
EARLIEST_MS = 1_514_764_800_000

#: Jobs at an end of what waits that are looked at for one that has not been started yet.
ENDS = 3
#: Bytes of the options beyond which a job's delay is not looked for.
MAX_OPTS = 64 * 1024
#: What is asked, in the order in which it is answered.
NAMES = (
    *("wait", "paused", "active", "prioritized", "delayed", "waiting-children", "completed", "failed", "due"),
    *("earliest due", "meta", "limiter", "limiter left", "markers", "first due"),
)

# What can't be answered (a key of another type, a command that is not permitted) is named and counts as nothing.
#
# `first due` is when the first of those jobs was due that wait for their first start: at each end of what waits, the
# first that has not been started yet is looked at, since a row that was does not tell since when it waits again. The
# row's own `delay` is set to 0 when its time has come, so that of its options counts. An entry `0:…` at the tail of
# `wait` is no job but a marker of a BullMQ before 5, which counts as one in LLEN.
_TEXT = """
local base, due = KEYS[1], ARGV[1]
local found, problems, markers, first = {}, {}, 0, nil

local function ask(name, ...)
  local reply = redis.pcall(...)
  if type(reply) == "table" and reply.err then
    problems[#problems + 1] = name
    problems[#problems + 1] = reply.err
    reply = false
  end
  found[#found + 1] = reply
  return reply
end

local function delay_of(opts)
  if not opts or #opts > @MAX_OPTS then return 0 end
  local is_json, options = pcall(cjson.decode, opts)
  local delay = is_json and type(options) == "table" and options.delay
  if type(delay) ~= "number" or delay ~= delay or delay <= 0 then return 0 end
  return math.ceil(math.min(delay, @MAX_SAFE))
end

-- The reply to a range, the one to begin with first, or last.
local function look(ids, is_last_first)
  if ids.err then return end
  for i = 1, #ids do
    local id = is_last_first and ids[#ids + 1 - i] or ids[i]
    local row = redis.pcall("HMGET", base .. id, "timestamp", "opts", "processedOn")
    local added = not row.err and row[1] and tonumber(row[1])
    if added and added >= @EARLIEST and added <= @MAX_SAFE and (not row[3] or row[3] == "") then
      local at = added + delay_of(row[2])
      if not first or at < first then first = at end
      return
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
if ask("limiter", "GET", base .. "limiter") then
  ask("limiter left", "PTTL", base .. "limiter")
else
  found[#found + 1] = false
end
local tail = redis.pcall("LRANGE", base .. "wait", -@ENDS, -1)
if not tail.err and tail[1] and string.sub(tail[#tail], 1, 2) == "0:" then markers = 1 end
look(tail, true)
look(redis.pcall("LRANGE", base .. "wait", 0, 0))
look(redis.pcall("LRANGE", base .. "paused", -1, -1))
look(redis.pcall("ZRANGE", base .. "prioritized", 0, @ENDS - 1))
look(redis.pcall("ZRANGE", base .. "prioritized", -1, -1))
found[#found + 1] = markers
found[#found + 1] = first and string.format("%.0f", first) or false
return {problems, found}
"""
_CONSTANTS = {"ENDS": ENDS, "MAX_OPTS": MAX_OPTS, "EARLIEST": EARLIEST_MS, "MAX_SAFE": MAX_SAFE}
LOOK = Lua(re.sub("@([A-Z_]+)", lambda match: str(_CONSTANTS[match[1]]), _TEXT))


def command(base: str, now_ms: int) -> Command:
    """What is asked about one queue.

    Args:
        base: what the queue's keys begin with.
    """
    due = (now_ms + 1) * DELAYED_SCORE - 1  # promoteDelayedJobs, in moveToActive-11.lua
    return LOOK.call([base], [due])


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


def oldest_s(replies: Mapping[str, Any], now_ms: int) -> float | None:
    """How long ago the first of the jobs that wait for their first start was due, seconds; None: there is none."""
    dues = [number(replies.get("first due"))]
    earliest: Sequence[Any] = replies.get("earliest due") or ()
    due = number(earliest[1]) if len(earliest) > 1 else None
    if due is not None and due / DELAYED_SCORE >= EARLIEST_MS:
        dues.append(due / DELAYED_SCORE)
    return max((max(0.0, (now_ms - each) / 1000) for each in dues if each is not None), default=None)


def number(text: Any) -> float | None:
    """A finite number that is stored as text; None: it is none."""
    try:
        found = float(text)
    except (TypeError, ValueError):
        return None
    return found if is_number(found) else None

"""Lua that looks at jobs and changes nothing.

Each is bounded: by the jobs it is asked for, by bytes, by entries of lists that it compares. A key of another type or
a command that is not permitted is an answer and no end.
"""

from __future__ import annotations

from workers.broker.batch import Lua

#: The fields of a job's row that are read; whoever adds others to it makes no look larger. Sources: bullmq's Lua
#: (storeJob, prepareJobForProcessing, moveToFinished), npm bullmq's Job.fromJSON of 5 and 6.
FIELDS = (
    "name", "data", "opts", "timestamp", "delay", "priority", "progress", "attemptsMade", "atm", "ats", "stc",
    "processedOn", "finishedOn", "failedReason", "defa", "stacktrace", "returnvalue", "parent", "parentKey", "pb",
    "deid", "rjk",
)  # fmt: skip

# Where a page begins, for both orders. A sorted set is stable: the place after a job is found by its score and its id,
# even when the job itself is gone. Of jobs with one score Redis' order is that of their bytes; Lua's `<` would go by
# the locale. In a list, places shift: it is looked for the last jobs that the page before has shown, first near where
# they were, since LPOS compares everything before that. When all of them are gone, it is rather begun too early than
# too late.
SLICE = Lua("""
local key, kind, newest, count = KEYS[1], ARGV[1], ARGV[2] == "newest", tonumber(ARGV[3])

local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function rank_after(score, member)
  if score == "" then return 0 end
  local beyond
  if newest then
    beyond = redis.call("ZCOUNT", key, "(" .. score, "+inf")
  else
    beyond = redis.call("ZCOUNT", key, "-inf", "(" .. score)
  end
  if not member then return beyond end
  local low, high = 0, redis.call("ZCOUNT", key, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = beyond + middle
    local found
    if newest then
      found = redis.call("ZREVRANGE", key, at, at)[1]
    else
      found = redis.call("ZRANGE", key, at, at)[1]
    end
    local passed
    if newest then passed = not before(found, member) else passed = not before(member, found) end
    if passed then low = middle + 1 else high = middle end
  end
  return beyond + low
end

if kind == "zset" then
  local start = rank_after(ARGV[4], ARGV[5])
  if newest then return {start, 0, redis.call("ZREVRANGE", key, start, start + count - 1, "WITHSCORES")} end
  return {start, 0, redis.call("ZRANGE", key, start, start + count - 1, "WITHSCORES")}
end

local length = redis.call("LLEN", key)
local start = tonumber(ARGV[4])

-- From the head, or from the tail, the first one first.
local function from(first, number)
  if newest then return redis.call("LRANGE", key, first, first + number - 1) end
  if first >= length then return {} end
  local ids, turned = redis.call("LRANGE", key, -(first + number), -(first + 1)), {}
  for i = #ids, 1, -1 do turned[#turned + 1] = ids[i] end
  return turned
end

local function near()
  local first, places = math.max(0, start - 500), {}
  for i, id in ipairs(from(first, 1000)) do places[id] = first + i end
  for i = 6, #ARGV do
    if places[ARGV[i]] then return places[ARGV[i]] end
  end
end

local function anywhere()
  for i = 6, #ARGV do
    local at
    if newest then
      at = redis.call("LPOS", key, ARGV[i], "MAXLEN", start + 100000)
    else
      at = redis.call("LPOS", key, ARGV[i], "RANK", -1, "MAXLEN", start + 100000)
      if at then at = length - 1 - at end
    end
    if at then return at + 1 end
  end
end

local found = #ARGV < 6
if not found then
  local place = near() or anywhere()
  if place then start, found = place, true end
end
if not found then
  if newest then start = math.max(0, start + math.min(0, length - tonumber(ARGV[5]))) else start = 0 end
end
return {start, length, from(start, count)}
""")
"""KEYS: a state's list or sorted set. ARGV: list or zset; newest or oldest; most ids; then of a sorted set the score
and the id after which it begins (without the id at that score, where that is empty at the beginning), of a list the
place, the length that it had, and ids to begin after, the best first. Returns the place of the first, the length, and
ids (with scores).
"""

# Values longer than ARGV[1] come cut, with their size. After ARGV[2] bytes the rest is left for another call, which
# begins where this one ended: the reply is shorter than what was asked for. States as in getStateV2, but that a list
# is searched only while ARGV[3] entries last: then a job that is in no sorted set is said to wait.
JOBS = Lua("""
local base, limit, budget, entries = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local number = tonumber(ARGV[4])
local fields, replies, used = {}, {}, 0
for i = 1, number do fields[i] = ARGV[4 + i] end

local function score(key, id)
  local found = redis.pcall("ZSCORE", key, id)
  if type(found) == "string" then return found end
  return nil
end

local function has(key, id)
  local length = redis.pcall("LLEN", key)
  if type(length) ~= "number" or length == 0 then return false end
  if length > entries then return nil end
  local found = redis.pcall("LPOS", key, id)
  entries = entries - (type(found) == "number" and found or length)
  return type(found) == "number"
end

local function state_of(id)
  local zsets = {"completed", "failed", "delayed", "prioritized", "waiting-children"}
  for i = 1, #zsets do
    local found = score(base .. zsets[i], id)
    if found then return zsets[i], found end
  end
  local lists = {"active", "wait", "paused"}
  for i = 1, #lists do
    local found = has(base .. lists[i], id)
    if found == nil then return "waiting", "" end
    if found then return (lists[i] == "wait" and "waiting" or lists[i]), "" end
  end
  return "unknown", ""
end

for i = 5 + number, #ARGV do
  local id = ARGV[i]
  if used > budget then return replies end
  local row = redis.pcall("EXISTS", base .. id) == 1 and redis.pcall("HMGET", base .. id, unpack(fields))
  if not row then
    replies[#replies + 1] = {}
  elseif row.err then
    replies[#replies + 1] = {row.err}
  else
    local cut, there = {}, false
    for f = 1, number do
      if row[f] then
        there = true
        used = used + #row[f]
        if #row[f] > limit then
          cut[#cut + 1] = f
          cut[#cut + 1] = #row[f]
          row[f] = string.sub(row[f], 1, limit)
        end
      end
    end
    if not there then
      replies[#replies + 1] = {}
    elseif entries < 0 then
      replies[#replies + 1] = {row, cut}
    else
      local state, at = state_of(id)
      replies[#replies + 1] = {row, cut, state, at}
    end
  end
end
return replies
""")
"""KEYS: the queue's keys but for what follows (`bull:q:`). ARGV: bytes of a value; bytes in all; entries of lists, -1:
no states; how many fields, these fields, ids. Returns for each id {}: no such row; {error}; {values, cut}: `cut` as
field number, size, …; and the state and its score where asked for."""

# The jobs whose data name a task: of each state the newest and, where jobs wait, those that are next.
NAMED = Lua("""
local base, count = KEYS[1], tonumber(ARGV[1])
local looked, found, seen = 0, {}, {}

local function look(ids)
  if type(ids) ~= "table" or ids.err then return end
  for i = 1, #ids do
    local id = ids[i]
    if not seen[id] then
      seen[id] = true
      looked = looked + 1
      local data = redis.pcall("HGET", base .. id, "data")
      if type(data) == "string" and #data <= tonumber(ARGV[2]) and #found < 100 then
        for n = 3, #ARGV do
          if string.find(data, ARGV[n], 1, true) then
            found[#found + 1] = id
            break
          end
        end
      end
    end
  end
end

for _, name in ipairs({"active", "wait", "paused"}) do
  look(redis.pcall("LRANGE", base .. name, 0, count - 1))
  look(redis.pcall("LRANGE", base .. name, -count, -1))
end
for _, name in ipairs({"prioritized", "delayed", "waiting-children", "completed", "failed"}) do
  look(redis.pcall("ZREVRANGE", base .. name, 0, count - 1))
end
for _, name in ipairs({"prioritized", "delayed"}) do
  look(redis.pcall("ZRANGE", base .. name, 0, count - 1))
end
return {looked, found}
""")
"""KEYS: as for JOBS. ARGV: jobs at each end of each state; bytes of the largest data that are looked into; texts of
which the data have one. Returns how many were looked at, and the ids of at most 100 that have one."""

"""Lua for acts on one job: BullMQ's own scripts as functions, behind a look at where the job is, so that an act is done
as a whole or not at all, and its answer says where it found the job.

Every script gets the job's key first, then Fleet's own keys of it; ARGV begins with the queue's base (`bull:q:`) and
the job's id. It answers with a list: a word of `act_runner.Word`, the job's state, and what else there is to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from bullmq.redis_connection import SCRIPT_DEFINITIONS, loadScript

from workers.broker.keys import TOKEN_PREFIX

#: The one of them that the package does not register.
CHANGE_DELAY = "changeDelay-4.lua"
#: BullMQ's scripts that are run inside of ours, by the name that they have there.
FILES: Mapping[str, str] = {
    "add_delayed": SCRIPT_DEFINITIONS["addDelayedJob"],
    "add_prioritized": SCRIPT_DEFINITIONS["addPrioritizedJob"],
    "add_standard": SCRIPT_DEFINITIONS["addStandardJob"],
    "delay": CHANGE_DELAY,
    "finish": SCRIPT_DEFINITIONS["moveToFinished"],
    "pause": SCRIPT_DEFINITIONS["pause"],
    "prioritize": SCRIPT_DEFINITIONS["changePriority"],
    "promote": SCRIPT_DEFINITIONS["promote"],
    "remove": SCRIPT_DEFINITIONS["removeJob"],
    "reprocess": SCRIPT_DEFINITIONS["reprocessJob"],
    "update": SCRIPT_DEFINITIONS["updateData"],
}

# BullMQ before 6 keeps the waiting jobs of a paused queue in `paused`, and renames one list over the other when it
# pauses or resumes: what stands in the one that it does not know of is lost. Where such a version uses the queue, which
# `meta.version` tells, jobs go where it looks for them; later versions find them there, too.
WAITING = """
local function waiting_list(base)
  local seen = redis.call("HMGET", base .. "meta", "paused", "version")
  if seen[1] and seen[2] and string.find(seen[2], "^bullmq:[1-5]%.") then return base .. "paused" end
  return base .. "wait"
end
"""

_HEAD = f"""
local call = redis.call
local base, id, job = ARGV[1], ARGV[2], KEYS[1]
{WAITING}
local function state_of(base, id)
  for _, name in ipairs({{"completed", "failed", "delayed", "prioritized", "waiting-children"}}) do
    if call("ZSCORE", base .. name, id) then return name end
  end
  if call("LPOS", base .. "active", id) then return "active" end
  if call("LPOS", base .. "wait", id) or call("LPOS", base .. "paused", id) then return "waiting" end
  return "unknown"
end
local function schedule_of(base, id, job)
  local schedule = call("HGET", job, "rjk")
  local due = schedule and call("ZSCORE", base .. "repeat", schedule)
  if due and string.sub(id, -#due - 1) == ":" .. due then return schedule end
  return nil
end
local function is_one_of(name, ...)
  for _, each in ipairs({{...}}) do if each == name then return true end end
  return false
end
local function wake(base)
  if call("HEXISTS", base .. "meta", "concurrency") == 1 then call("ZADD", base .. "marker", 0, "0") end
end
local state = state_of(base, id)
if call("EXISTS", job) == 0 then return {{"gone", state}} end
"""

# ARGV: the data as read and as they are to be (empty: as they are), push command, "1" to count attempts anew.
_RETRY = """
if not is_one_of(state, "failed", "completed") then return {"not", state} end
if ARGV[4] ~= "" then
  if (call("HGET", job, "data") or "") ~= ARGV[3] then return {"changed", state} end
  call("HSET", job, "data", ARGV[4])
end
local said = state == "failed" and "failedReason" or "returnvalue"
reprocess(
  {job, base .. "events", base .. state, waiting_list(base), base .. "meta", base .. "active", base .. "marker",
   base .. "prioritized", base .. "pc"},
  {id, ARGV[5], said, state, ARGV[6], "0"})
call("DEL", KEYS[2])
return {"ok", state}
"""

_PROMOTE = """
if state ~= "delayed" then return {"not", state} end
promote(
  {base .. "delayed", waiting_list(base), base .. "paused", base .. "meta", base .. "prioritized", base .. "active",
   base .. "pc", base .. "events", base .. "marker"},
  {base, id})
return {"ok", state}
"""

# ARGV: "1" to remove its children, too. A job without a lock in `active` is of a worker that is gone.
_REMOVE = """
local schedule = schedule_of(base, id, job)
if schedule then return {"schedule", state, schedule} end
local is_locked = call("EXISTS", job .. ":lock") == 1
local done = remove({job, base .. "repeat"}, {id, ARGV[3], base})
if done ~= 1 then return {is_locked and "held" or "child held", state, call("HGET", job, "pb") or ""} end
if state == "active" then wake(base) end
call("DEL", KEYS[2], KEYS[3], KEYS[4])
return {"ok", state}
"""

# ARGV: priority, "1" for the front of those with the same. changePriority looks in the one list that it is given.
_PRIORITY = """
if not is_one_of(state, "waiting", "prioritized", "delayed", "waiting-children") then return {"not", state} end
local list = waiting_list(base)
if state == "waiting" then list = call("LPOS", base .. "paused", id) and base .. "paused" or base .. "wait" end
prioritize(
  {list, base .. "paused", base .. "meta", base .. "prioritized", base .. "active", base .. "pc", base .. "marker"},
  {ARGV[3], base, id, ARGV[4]})
return {"ok", state}
"""

# ARGV: delay, now.
_DELAY = """
if state ~= "delayed" then return {"not", state} end
delay({base .. "delayed", base .. "meta", base .. "marker", base .. "events"}, {ARGV[3], ARGV[4], id, job})
return {"ok", state}
"""

# ARGV: the data as read, the data as they are to be, the states in which they may be changed.
_DATA = """
if not is_one_of(state, unpack(ARGV, 5)) then return {"not", state} end
if (call("HGET", job, "data") or "") ~= ARGV[3] then return {"changed", state} end
update({job}, {ARGV[4]})
return {"ok", state}
"""

# ARGV: 3 the data as read, 4 as they are once the job has ended, 5 as they are while it is asked to stop, empty where
# they stay; 6 the request and 7 how long it is kept, ms; 8 what if another's worker runs it: `refuse` or `write`; 9
# now, 10 the reason, 11 and 12 moveToFinished's options and fields, 13… fields of the row that it would break on.
# A job that waits is failed as if a worker had: for an instant that nobody sees it is active.
_CANCEL = f"""
if not is_one_of(state, "waiting", "prioritized", "delayed", "waiting-children", "active") then
  return {{"not", state}}
end
local schedule = state ~= "active" and schedule_of(base, id, job)
if schedule then return {{"schedule", state, schedule}} end
if (call("HGET", job, "data") or "") ~= ARGV[3] then return {{"changed", state}} end
if state == "active" then
  local lock = call("GET", job .. ":lock")
  if lock then
    local holder = call("HGET", job, "pb") or ""
    local is_ours = string.sub(lock, 1, {len(TOKEN_PREFIX)}) == "{TOKEN_PREFIX}"
    if not is_ours and ARGV[8] == "refuse" then return {{"held", state, holder}} end
    if ARGV[5] ~= "" then call("HSET", job, "data", ARGV[5]) end
    if not is_ours then return {{"written", state, holder}} end
    call("SET", KEYS[2], ARGV[6], "PX", ARGV[7])
    return {{"asked", state, holder}}
  end
  call("SREM", base .. "stalled", id)
else
  if state ~= "waiting" then
    call("ZREM", base .. state, id)
  elseif call("LREM", base .. "wait", 1, id) == 0 then
    call("LREM", base .. "paused", 1, id)
  end
  call("LPUSH", base .. "active", id)
end
for at = 13, #ARGV do
  if ARGV[at] == "atm" then call("HSET", job, "atm", 0) else call("HDEL", job, ARGV[at]) end
end
if ARGV[4] ~= "" then call("HSET", job, "data", ARGV[4]) end
call("DEL", KEYS[2], KEYS[3], KEYS[4])
finish(
  {{base .. "wait", base .. "active", base .. "prioritized", base .. "events", base .. "stalled", base .. "limiter",
   base .. "delayed", base .. "paused", base .. "meta", base .. "pc", base .. "failed", job, base .. "metrics:failed",
   base .. "marker"}},
  {{id, ARGV[9], "failedReason", ARGV[10], "failed", "", base, ARGV[11], ARGV[12]}})
if state == "active" then wake(base) end
return {{"ok", state}}
"""

_ADD = """
local function added(base, id, name, data, now, delay, priority, lifo, de)
  local names = {base, id, name, tonumber(now)}
  local opts = {lifo = lifo or nil, de = de}
  if de then names[9] = base .. "de:" .. de.id end
  if priority > 0 then opts.priority = priority end
  if delay > 0 then
    opts.delay = delay
    return add_delayed(
      {base .. "marker", base .. "meta", base .. "id", base .. "delayed", base .. "completed", base .. "events"},
      {cmsgpack.pack(names), data, cmsgpack.pack(opts)})
  elseif priority > 0 then
    return add_prioritized(
      {base .. "marker", base .. "meta", base .. "id", base .. "prioritized", base .. "delayed", base .. "completed",
       base .. "active", base .. "events", base .. "pc"},
      {cmsgpack.pack(names), data, cmsgpack.pack(opts)})
  end
  return add_standard(
    {waiting_list(base), base .. "paused", base .. "meta", base .. "id", base .. "completed", base .. "delayed",
     base .. "active", base .. "events", base .. "marker"},
    {cmsgpack.pack(names), data, cmsgpack.pack(opts)})
end
"""

# KEYS: 2 the new job, 3… its old request to stop, deaths and checkpoint, and its new one. ARGV: the other base, now.
# The row is taken over as it is, so that no number in it is written anew; but for what was said of its last run.
_MOVE = """
local other, now = ARGV[3], tonumber(ARGV[4])
if not is_one_of(state, "waiting", "prioritized", "delayed", "failed") then return {"not", state} end
local schedule = schedule_of(base, id, job)
if schedule then return {"schedule", state, schedule} end
local parts = call("EXISTS", job .. ":dependencies", job .. ":processed", job .. ":failed", job .. ":unsuccessful")
if parts > 0 or call("HEXISTS", job, "parentKey") == 1 then return {"flow", state} end
if call("EXISTS", KEYS[2]) == 1 then return {"taken", state, state_of(other, id)} end
local row, flat = {}, call("HGETALL", job)
for at = 1, #flat, 2 do row[flat[at]] = flat[at + 1] end
local readable, opts = pcall(cjson.decode, row["opts"] or "{}")
if not readable or type(opts) ~= "table" then return {"broken", state, "opts"} end
local de = type(opts.de) == "table" and type(opts.de.id) == "string" and opts.de or nil
local twin = de and call("GET", other .. "de:" .. de.id)
if twin then return {"deduplicated", state, twin} end
local due = state == "delayed" and math.floor(call("ZSCORE", base .. "delayed", id) / 0x1000) or 0
local delay = math.max(0, due - now)
local priority = tonumber(row["priority"]) or 0
local reply = added(
  other, id, row["name"] or "", row["data"] or "", ARGV[4], delay, priority, opts.lifo == true, de)
if reply ~= id then return {"broken", state, "it was not added"} end
local over = {finishedOn = 1, processedOn = 1, returnvalue = 1, rjk = 1, nrjid = 1, pb = 1}
if state == "failed" then over["failedReason"] = 1 end
if delay == 0 then over["delay"] = 1 end
for name, value in pairs(row) do
  if not over[name] then call("HSET", KEYS[2], name, value) end
end
if call("EXISTS", job .. ":logs") == 1 then call("RENAME", job .. ":logs", KEYS[2] .. ":logs") end
if call("EXISTS", KEYS[5]) == 1 then call("RENAME", KEYS[5], KEYS[6]) end
call("DEL", KEYS[3], KEYS[4])
remove({job, base .. "repeat"}, {id, "0", base})
return {"ok", state, id}
"""

# ARGV: how the new id begins, how many are tried, data, options as they are stored, now, priority, "1" for the front.
_REPLAY = """
if not is_one_of(state, "completed", "failed", "unknown") then return {"not", state} end
for number = 1, tonumber(ARGV[4]) do
  local new = ARGV[3] .. number
  if call("EXISTS", base .. new) == 0 and state_of(base, new) == "unknown" then
    local name = call("HGET", job, "name") or ""
    local reply = added(base, new, name, ARGV[5], ARGV[7], 0, tonumber(ARGV[8]), ARGV[9] == "1", nil)
    if reply ~= new then return {"broken", state, "it was not added"} end
    call("HSET", base .. new, "opts", ARGV[6])
    return {"ok", state, new}
  end
end
return {"taken", state}
"""

_TEXTS = {
    "retry": (_RETRY, ("reprocess",)),
    "promote": (_PROMOTE, ("promote",)),
    "remove": (_REMOVE, ("remove",)),
    "priority": (_PRIORITY, ("prioritize",)),
    "delay": (_DELAY, ("delay",)),
    "data": (_DATA, ("update",)),
    "cancel": (_CANCEL, ("finish",)),
    "move": (_ADD + _MOVE, ("add_standard", "add_delayed", "add_prioritized", "remove")),
    "replay": (_ADD + _REPLAY, ("add_standard", "add_delayed", "add_prioritized")),
}


@cache
def script(name: str) -> str:
    """The text of one of ours, BullMQ's within it."""
    text, used = _TEXTS[name]
    return "".join(function(each) for each in used) + _HEAD + text


def function(name: str) -> str:
    """A script as a function: within it KEYS and ARGV are its own."""
    return f"local function {name}(KEYS, ARGV)\n{loadScript(FILES[name])}\nend\n"

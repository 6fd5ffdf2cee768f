"""Lua for job schedulers: BullMQ's own scripts as functions, behind a look at what is there, so that nothing which
somebody else has changed meanwhile is written over, and so that a schedule and the mark that it is ours are one step.

The marks are a hash of Fleet's own beside BullMQ's keys (`keys.schedules`): Node's getters don't see it, and no command
of Node's touches it. A scheduler that has none was made by somebody else.
"""

from __future__ import annotations

from bullmq.redis_connection import SCRIPT_DEFINITIONS, loadScript

from workers.broker.batch import Lua
from workers.broker.schedule_view import STATIC

#: BullMQ's scripts that are run inside of ours.
ADD: str = SCRIPT_DEFINITIONS["addJobScheduler"]
REMOVE: str = SCRIPT_DEFINITIONS["removeJobScheduler"]
#: Bytes of the data and of the options of one schedule that are read.
MAX_READ = 2**20

_STATIC = "{" + ", ".join(f'"{name}"' for name in STATIC) + "}"

# What a schedule is, as one text to compare; of one that is not there, an empty one.
_SEEN = f"""
local function seen(set, id)
  local due = redis.call("ZSCORE", set, id)
  if not due then return "", false, {{}} end
  local values = redis.call("HMGET", set .. ":" .. id, unpack({_STATIC}))
  local parts = {{}}
  for at, value in ipairs(values) do parts[at] = value and #value .. ":" .. value or "-" end
  return redis.sha1hex(table.concat(parts, ",")), due, values
end
"""

# KEYS: repeat, the marks. ARGV: the queue's base, the id, how much is read. Answers with the mark, then with what
# schedule_view.parse reads. The marks may not be permitted: then there is none.
READ = Lua(f"""{_SEEN}
local base, id, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local mark = redis.pcall("HGET", KEYS[2], id)
if type(mark) ~= "string" then mark = "" end
local version, due, values = seen(KEYS[1], id)
if not due then return {{mark, {{}}}} end
for at, value in ipairs(values) do if value and #value > most then values[at] = "too large" end end
local job = base .. "repeat:" .. id .. ":" .. due
local row = redis.call("HMGET", job, "timestamp", "finishedOn", "opts")
local run = row[2] and "over" or row[1] and "planned" or "gone"
local opts = row[3] and #row[3] <= most and row[3] or ""
return {{mark, {{due, version, run, opts, redis.call("HGET", KEYS[1] .. ":" .. id, "ic"), unpack(values)}}}}
""")

_UNCHANGED = f"""{_SEEN}
local function unchanged(set, marks, id, version, mark)
  if version ~= "*" and seen(set, id) ~= version then return false end
  return mark == "*" or (redis.call("HGET", marks, id) or "") == mark
end
local function set_mark(marks, id, mark)
  if mark == "-" then redis.call("HDEL", marks, id) elseif mark ~= "" then redis.call("HSET", marks, id, mark) end
end
"""


def _function(name: str, file: str) -> str:
    """A script as a function: within it KEYS and ARGV are its own."""
    return f"local function {name}(KEYS, ARGV)\n{loadScript(file)}\nend\n"


# KEYS: the 11 of addJobScheduler, the marks. ARGV: its 9, the version and the mark as they were read (`*`: whatever),
# the mark to be set (empty: it stays as it is; -: none).
PUT = f"""{_function("add", ADD)}{_UNCHANGED}
local id = ARGV[3]
if not unchanged(KEYS[1], KEYS[12], id, ARGV[10], ARGV[11]) then return {{"changed"}} end
local reply = add({{unpack(KEYS, 1, 11)}}, {{unpack(ARGV, 1, 9)}})
if type(reply) ~= "table" then return {{"taken", tostring(reply)}} end
set_mark(KEYS[12], id, ARGV[12])
return {{"ok", reply[1], tostring(reply[2])}}
"""

# KEYS: the 3 of removeJobScheduler, the marks. ARGV: its 2, the version and the mark as they were read, the mark to be
# set.
DROP = f"""{_function("remove", REMOVE)}{_UNCHANGED}
if not unchanged(KEYS[1], KEYS[4], ARGV[1], ARGV[3], ARGV[4]) then return {{"changed"}} end
local reply = remove({{unpack(KEYS, 1, 3)}}, {{unpack(ARGV, 1, 2)}})
set_mark(KEYS[4], ARGV[1], ARGV[5])
return {{reply == 0 and "ok" or "gone"}}
"""

# KEYS: repeat, the marks. ARGV: the id, the version and the mark as they were read, the mark to be set.
MARK = f"""{_UNCHANGED}
if not unchanged(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]) then return {{"changed"}} end
set_mark(KEYS[2], ARGV[1], ARGV[4])
return {{"ok"}}
"""

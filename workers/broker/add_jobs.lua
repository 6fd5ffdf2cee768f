--[[
  Adds jobs by BullMQ's own scripts, which add_script.py puts in at the marker below, as they are: adders[kind] runs
  one, takes[kind] names the keys that it takes.

  KEYS      for each queue: its keys, in the order of NAMES
  ARGV[1]   packed: the bases of the queues' keys ("bull:q:"), whether the jobs are one tree, the jobs. A job is
            {queue's number, kind, its id or "", its parent's key or "", whether it has a deduplication key, the number
            of the node above it or 0}, and what BullMQ's scripts take: {…, packed arguments, data, packed options}

  Returns for each job
    id                              it was added
    {id, "id", state}               a job of that id is there
    {id, "deduplication", state}    another job, this one, has its deduplication key
    code                            refused, see below
    {"", "error", text}             a script broke
    ""                              of a tree: the node above was there already, with its children
  or, of a tree, {"refused", number, code}: nothing was added, because of that node.
]]
local NO_PARENT, OTHER_PARENT, FAILED_CHILD = -5, -7, -101
local NAMES = {"wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker", "prioritized", "pc",
  "waiting-children", "failed"}
local adders, takes = {}, {}
--@adders

local bases, is_tree, jobs = unpack(cmsgpack.unpack(ARGV[1]))
local queues = {}
for number, base in ipairs(bases) do
  local queue = {base = base, named = {}, keys = {}}
  for place, name in ipairs(NAMES) do
    queue.named[name] = KEYS[(number - 1) * #NAMES + place]
  end
  for kind, names in pairs(takes) do
    queue.keys[kind] = {}
    for place, name in ipairs(names) do
      queue.keys[kind][place] = queue.named[name]
    end
  end
  queues[number] = queue
end

-- As BullMQ's getState says it, without a walk through all that waits.
local function state_of(queue, id)
  for _, state in ipairs({"completed", "failed", "delayed", "prioritized", "waiting-children"}) do
    if redis.call("ZSCORE", queue.named[state], id) then
      return state
    end
  end
  for _, running in ipairs(redis.call("LRANGE", queue.named.active, 0, -1)) do
    if running == id then
      return "active"
    end
  end
  return "waiting"
end

local function is_there(queue, id)
  return id ~= "" and redis.call("EXISTS", queue.base .. id) == 1
end

-- What BullMQ's scripts refuse, and what they should: a child that has failed would be waited for without end.
local function refusal(queue, id, parent, above)
  if parent == "" then
    return nil
  end
  if above == 0 and redis.call("EXISTS", parent) == 0 then
    return NO_PARENT
  end
  if not is_there(queue, id) then
    return nil
  end
  local other = redis.call("HGET", queue.base .. id, "parentKey")
  if other and other ~= parent and redis.call("EXISTS", other) == 1 then
    return OTHER_PARENT
  end
  if redis.call("ZSCORE", queue.named.failed, id) then
    return FAILED_CHILD
  end
  return nil
end

local function add(number)
  local place, kind, id, _, has_key, _, packed, data, opts = unpack(jobs[number])
  local queue = queues[place]
  local was_there = is_there(queue, id)
  local answer = adders[kind](queue.keys[kind], {packed, data, opts})
  if type(answer) == "number" then
    return answer
  end
  if was_there then
    return {answer, "id", state_of(queue, answer)}
  end
  if has_key and answer ~= (id ~= "" and id or redis.call("GET", queue.named.id)) then
    return {answer, "deduplication", state_of(queue, answer)}
  end
  return answer
end

local answers = {}
if not is_tree then
  for number, job in ipairs(jobs) do
    local refused = refusal(queues[job[1]], job[3], job[4], 0)
    if refused then
      answers[number] = refused
    else
      local ran, answer = pcall(add, number)
      answers[number] = ran and answer or {"", "error", type(answer) == "table" and answer.err or tostring(answer)}
    end
  end
  return answers
end

-- Leaves that have completed come last: each would start its parent, whose other children are not there yet.
local brought, late = {}, {}
for number, job in ipairs(jobs) do
  local above = job[6]
  if brought[above] then
    brought[number], answers[number] = true, ""
  else
    local queue, id = queues[job[1]], job[3]
    local refused = refusal(queue, id, job[4], above)
    if refused then
      return {"refused", number, refused}
    end
    if is_there(queue, id) then
      brought[number] = job[2] == "parent"
      late[number] = redis.call("ZSCORE", queue.named.completed, id) and true
    end
  end
end
for _, turn in ipairs({false, true}) do
  for number in ipairs(jobs) do
    if answers[number] == nil and (late[number] or false) == turn then
      answers[number] = add(number)
      if number == 1 and type(answers[1]) == "table" and answers[1][2] == "deduplication" then
        for below = 2, #jobs do
          answers[below] = ""
        end
      end
    end
  end
end
return answers

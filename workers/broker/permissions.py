"""What the Redis user must be permitted, and a look at start whether it is: a script that breaks half-way on a command
it may not run leaves a job between two states.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from workers.broker.keys import own, own_pattern

#: Commands on keys of the prefix, most of them inside BullMQ's scripts, where the server checks each one too.
ON_KEYS = (
    "bzpopmin", "del", "exists", "get", "hdel", "hexists", "hget", "hgetall", "hincrby", "hmget", "hmset", "hset",
    "incr", "llen", "lpos", "lpush", "lrange", "lrem", "ltrim", "mget", "persist", "pexpire", "pttl", "rpoplpush",
    "rpush", "sadd", "scard", "set", "sismember", "smembers", "srem", "xadd", "xtrim", "zadd", "zcard", "zpopmin",
    "zrange", "zrangebyscore", "zrem", "zremrangebyrank", "zremrangebyscore", "zrevrange", "zrevrangebyscore",
    "zscore",
)  # fmt: skip
#: Commands on no key, without which no job is done.
ON_NONE = ("ping", "evalsha", "eval", "script|load", "multi", "exec", "client|setname")
#: Commands that the worker does without, and what is lost then.
HELPFUL = {
    "info": "the server's version and eviction policy are not checked",
    "client|id": "a lost reply is settled less surely",
    "client|list": "a lost reply is settled less surely",
    "client|kill": "a lost reply is settled less surely",
    "client|unblock": "delayed jobs start up to 0.1 s late",
    "client|setinfo": "the fleet's workers are not told from others that work on its queues",
    "zcount": "delayed jobs that are due and not fetched yet do not count as waiting, and jobs can't be listed",
    "lset": "jobs that wait or run can't be cleaned",
    "lindex": "delayed jobs can't be promoted",
    "lpop": "delayed jobs can't be promoted",
    "rename": "a queue that BullMQ 5 has paused can't be resumed, and jobs can't be moved with their logs",
    "scan": "queues that are not in the configuration are not found",
    "hlen": "the details of a task can't be shown",
    "hscan": "the details of a task can't be shown",
    "sscan": "the details of a task can't be shown",
    "xread": "what happens in the queues can't be shown",
    "xrange": "what happens in the queues can't be shown",
    "xrevrange": "what happens in the queues can't be shown",
}
#: Needed besides in one case each: a database other than 0, sentinels, a cluster.
SOMETIMES = ("select", "role", "cluster|slots")

# acl_check_cmd runs nothing; Redis before 7.0 does not have it. A command that the server does not know is no matter
# of permission.
_CHECK = """
if not redis.acl_check_cmd then return {} end
local denied = {}
for _, packed in ipairs(ARGV) do
  local words = cjson.decode(packed)
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if known and not allowed then denied[#denied + 1] = packed end
end
return denied
"""


@dataclass(frozen=True, slots=True)
class Denied:
    """What the user may not run."""

    needed: tuple[str, ...] = ()
    helpful: tuple[str, ...] = ()
    own_keys: bool = False
    """He may not use the keys that are Fleet's own."""


def rule(prefix: str, commands: Iterable[str] = (*ON_NONE, *HELPFUL, *ON_KEYS)) -> str:
    """The words for `ACL SETUSER name on >password …` that permit these commands on the prefix and on the keys that
    are Fleet's own beside it, and nothing else.
    """
    granted = " ".join(f"+{command}" for command in commands)
    return f"resetkeys ~{prefix}:* ~{own_pattern(prefix)} resetchannels -@all {granted}"


async def denied(client: Redis, prefix: str) -> Denied:
    """Ask the server what the client's own user may not run. Nothing is run and no key is touched.

    Raises:
        redis.exceptions.NoPermissionError: not even this question is permitted (EVALSHA, SCRIPT LOAD).
        redis.exceptions.RedisError, OSError: there was no answer.
    """
    words = {command: _words(command, f"{prefix}:x") for command in (*ON_NONE, *HELPFUL, *ON_KEYS)}
    packed = {json.dumps(example): command for command, example in words.items()}
    own_key = json.dumps(_words("hset", own(prefix, "x")))
    answer = await client.register_script(_CHECK)(args=[*packed, own_key])
    found = [packed[item] for item in answer if item in packed]
    return Denied(
        needed=tuple(command for command in found if command not in HELPFUL),
        helpful=tuple(command for command in found if command in HELPFUL),
        own_keys=own_key in answer and "hset" not in found,
    )


def _words(command: str, key: str) -> list[str]:
    if command == "xread":
        return [command, "STREAMS", key, "0"]
    if command in ON_KEYS or (command in HELPFUL and "|" not in command and command not in ("info", "scan")):
        return [command, key, key, key]  # enough arguments for each, and none that names a key beyond the prefix
    if command in ("evalsha", "eval"):
        return [command, "", "0"]
    return command.split("|") + ["1"] * ("|" in command)

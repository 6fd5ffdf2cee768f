"""The server of the contest: loads a queue in one go, and counts what its clients asked of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from bullmq import Queue
from redis.asyncio import Redis

#: What a client can send for a job; none of these is called by BullMQ's scripts, so their counts are the clients'.
CLIENT_COMMANDS = ("evalsha", "eval", "bzpopmin")
DATA = {"type": "email-send", "id": "7", "to": ["a@example.com"], "subject": "S", "text": "T"}

# The rows that Queue.addBulk writes, without its events; `check` compares them.
_LOAD = """
for number = 1, tonumber(ARGV[2]) do
  local id = tostring(number)
  redis.call("HSET", KEYS[1] .. id, "name", "n", "data", ARGV[3], "opts", ARGV[4], "timestamp", ARGV[1],
    "delay", 0, "priority", 0)
  redis.call("LPUSH", KEYS[1] .. "wait", id)
end
redis.call("SET", KEYS[1] .. "id", ARGV[2])
redis.call("ZADD", KEYS[1] .. "marker", 0, "0")
"""


@dataclass(frozen=True, slots=True)
class Count:
    """Of the server, since it started."""

    commands: int
    cpu_s: float


class Yard:
    """Loads and counts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=None)
        self._load = self.redis.register_script(_LOAD)
        self._opts = ""

    async def check(self) -> None:
        """Take the form of a row from one that the package wrote; fails when ours has another."""
        queue = Queue("check", {"connection": self.url})
        job = await queue.add("n", DATA)
        real: Any = await self.redis.hgetall(f"bull:check:{job.id}")
        self._opts = real["opts"]
        await self.redis.flushdb()
        await self.load("check", 1)
        ours: Any = await self.redis.hgetall("bull:check:1")
        await queue.close()
        if {**ours, "timestamp": ""} != {**real, "timestamp": ""}:
            raise RuntimeError(f"the package writes other rows by now: {real}, not {ours}")
        await self.redis.flushdb()

    async def load(self, queue: str, jobs: int) -> None:
        """Put jobs 1 to `jobs` into `wait`."""
        args: list[Any] = [round(time.time() * 1000), jobs, json.dumps(DATA, separators=(",", ":")), self._opts]
        await self._load(keys=[f"bull:{queue}:"], args=args)

    async def clear(self) -> None:
        """Forget all jobs; scripts stay known."""
        await self.redis.flushdb()

    async def count(self) -> Count:
        """Now."""
        info = await self.redis.info("all")
        commands = sum(info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in CLIENT_COMMANDS)
        return Count(commands, info["used_cpu_user"] + info["used_cpu_sys"])

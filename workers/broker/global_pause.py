"""BullMQ's global pause, as it is seen over time: since when a queue is paused without a break, and who has paused it
through Fleet; and its end, unless something of that has changed meanwhile.

Since when is in Redis, so that all pods count from the same moment, and so that the one that resumes takes the moment
away from the others: one that looks a little later finds no pause to end but a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from workers.broker import act_scripts, keys
from workers.broker.backend import now_ms
from workers.broker.queue_acts import QueueActs

#: How long the moment is kept without a look, ms. What happened in between nobody has seen.
SEEN_MS = 30_000
#: Age from which on a mark of an operator's is of a pause that has ended, ms: his pause may be about to be made.
STALE_MS = 60_000

# KEYS: meta, paused-since, paused-by. ARGV: now, how long the moment is kept, from which age on a mark is stale.
_LOOK = """
local now = tonumber(ARGV[1])
local by = redis.call("HMGET", KEYS[3], "by", "at")
if redis.call("HEXISTS", KEYS[1], "paused") == 0 then
  redis.call("DEL", KEYS[2])
  if by[1] and now - (tonumber(by[2]) or 0) > tonumber(ARGV[3]) then redis.call("DEL", KEYS[3]) end
  return {}
end
local since = redis.call("GET", KEYS[2])
if since then
  redis.call("PEXPIRE", KEYS[2], ARGV[2])
else
  since = ARGV[1]
  redis.call("SET", KEYS[2], since, "PX", ARGV[2])
end
return {since, by[1] or "", by[2] or ""}
"""

# KEYS: as above. ARGV: the queue's base, the moment as it was seen. BullMQ's own script moves a bounded number of jobs
# at a time; the answer is how many it has left, or -1 where it is another pause, or somebody's own.
_RESUME = f"""{act_scripts.function("pause")}
local base = ARGV[1]
if redis.call("HEXISTS", KEYS[1], "paused") == 0 or redis.call("EXISTS", KEYS[3]) == 1
    or redis.call("GET", KEYS[2]) ~= ARGV[2] then
  return -1
end
redis.call("DEL", KEYS[2])
return tonumber(pause(
  {{base .. "paused", base .. "wait", KEYS[1], base .. "prioritized", base .. "events", base .. "delayed",
    base .. "marker"}},
  {{"resumed", "1"}})) or 0
"""


@dataclass(frozen=True, slots=True)
class SeenPause:
    """A queue that is paused for everyone."""

    since_ms: int
    """Since when it has been seen so."""
    by: str = ""
    """Who has paused it through Fleet; empty: somebody else, such as a Node stack that ended."""


class GlobalPauses:
    """Those of the queues of one prefix. Raises what Redis and its client raise, and TimeoutError.

    Args:
        client: commands; closed by whoever made it.
        prefix: BullMQ's key prefix.
        timeout_s: how long one round trip may take.
        clock: ms since the epoch.
    """

    def __init__(
        self, client: Redis, prefix: str, *, timeout_s: float = 15.0, clock: Callable[[], int] = now_ms
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._clock = clock
        self._look = client.register_script(_LOOK)
        self._resume = client.register_script(_RESUME)
        self._acts = QueueActs(client, prefix, timeout_s=timeout_s, clock=clock)

    async def look(self, queues: Iterable[str]) -> dict[str, SeenPause]:
        """Those of these queues that are paused. What is remembered of others is forgotten."""
        found = {}
        for queue in queues:
            args = [self._clock(), SEEN_MS, STALE_MS]
            async with asyncio.timeout(self._timeout_s):
                reply: Any = await self._look(keys=self._names(queue), args=args)
            if reply:
                found[queue] = SeenPause(int(reply[0]), str(reply[1]))
        return found

    async def resume(self, queue: str, seen: SeenPause) -> bool:
        """Resume it as Node's `queue.resume()` does, where it is still the pause that was seen, and nobody has made it
        his own through Fleet. Returns whether this call has done it.
        """
        async with asyncio.timeout(self._timeout_s):
            left: Any = await self._resume(keys=self._names(queue), args=[f"{self._prefix}:{queue}:", seen.since_ms])
        if left > 0:
            await self._acts.resume(queue)
        return bool(left >= 0)

    def _names(self, queue: str) -> list[str]:
        own = keys.paused_since(self._prefix, queue), keys.paused_by(self._prefix, queue)
        return [f"{self._prefix}:{queue}:meta", *own]

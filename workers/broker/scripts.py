"""Lua beyond what the `bullmq` package registers: one script it ships but doesn't load, and one of ours."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from bullmq.redis_connection import loadScript
from redis.asyncio import Redis


class Script(Protocol):
    """A registered script: EVALSHA, loading it first where the server does not know it."""

    def __call__(self, keys: list[str], args: list[Any]) -> Awaitable[Any]: ...


# moveToActive adds 1 to `ats`. A job that is handed back did not start, so the start is taken back; only where it is
# still the last one: not twice, not from under a worker that has the job by now, and not from a job that is gone.
_UNSPEND_START = """
if redis.call("HGET", KEYS[1], "ats") == ARGV[1] then
  return redis.call("HINCRBY", KEYS[1], "ats", -1)
end
return nil
"""


class Scripts:
    """The scripts of one client."""

    def __init__(self, client: Redis) -> None:
        self.move_to_wait: Script = client.register_script(loadScript("moveJobFromActiveToWait-9.lua"))
        """Front of `wait`, lock released. KEYS and ARGV: see the Lua file's head."""
        self.unspend_start: Script = client.register_script(_UNSPEND_START)
        """KEYS: the job. ARGV: the `ats` of the start that is taken back."""

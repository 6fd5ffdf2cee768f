"""What must be true of the server before jobs are taken from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

#: BullMQ's idle wait blocks for fractions of a second, which servers before 6.0 refuse.
MIN_VERSION = (6, 0)


class ServerRefusedError(Exception):
    """The server answers, and we must not work on it: trying again can't help, the operator must act."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says about itself; empty where it may not be asked (managed services deny INFO)."""

    version: str = ""
    eviction: str = ""


async def examine(client: Redis, *, allow_eviction: bool) -> ServerFacts:
    """Look at the server once.

    Raises:
        ServerRefusedError: it is too old, or may evict keys and `allow_eviction` is false.
        redis.exceptions.RedisError, OSError: it does not answer; try again.
    """
    await client.ping()
    try:
        info: dict[str, Any] = await client.info()
    except (NoPermissionError, ResponseError):
        return ServerFacts()
    facts = ServerFacts(str(info.get("redis_version", "")), str(info.get("maxmemory_policy", "")))
    judge(facts, allow_eviction=allow_eviction)
    return facts


def judge(facts: ServerFacts, *, allow_eviction: bool) -> None:
    """Pure part of `examine`.

    Raises:
        ServerRefusedError: see there. Under any policy but noeviction a server short of memory drops jobs silently
            (docs.bullmq.io, "Going to production").
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", facts.version)[:2])
    if numbers and numbers < MIN_VERSION[: len(numbers)]:
        needed = ".".join(map(str, MIN_VERSION))
        raise ServerRefusedError(f"Redis {facts.version} is too old: {needed} or newer is needed (redis.url)")
    if facts.eviction not in ("", "noeviction") and not allow_eviction:
        raise ServerRefusedError(
            f"Redis may evict keys (maxmemory-policy is {facts.eviction}), so jobs can vanish: "
            "set maxmemory-policy noeviction on the server, or redis.allow_eviction: true to run all the same"
        )

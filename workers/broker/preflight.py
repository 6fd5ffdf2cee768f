"""What must be true of the server before jobs are taken from it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from workers.broker.keys import own_pattern
from workers.broker.permissions import HELPFUL, Denied, denied

log = logging.getLogger(__name__)

#: BullMQ's idle wait blocks for fractions of a second, which servers before 6.0 refuse.
MIN_VERSION = (6, 0)

_WANTED = 'workers/README.md, "The Redis user", lists all that it needs'


class StartRefusedError(Exception):
    """Something here must not be worked with: trying again can't help, the operator must act."""


class ServerRefusedError(StartRefusedError):
    """The server answers, and we must not work on it."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says about itself; empty where it may not be asked (managed services deny INFO)."""

    version: str = ""
    eviction: str = ""


async def examine(client: Redis, *, allow_eviction: bool, prefix: str | None = None) -> ServerFacts:
    """Look at the server once, and with `prefix` at what our user may do there.

    Raises:
        ServerRefusedError: it is too old, may evict keys and `allow_eviction` is false, or does not permit our user
            what a worker needs.
        redis.exceptions.RedisError, OSError: it does not answer, or refuses user and password; try again.
    """
    try:
        await client.ping()
        facts = await _facts(client)
        judge(facts, allow_eviction=allow_eviction)
        if prefix is not None:
            _judge_permissions(await denied(client, prefix), prefix)
    except NoPermissionError as error:
        raise ServerRefusedError(f"{error}; {_WANTED}") from None
    return facts


async def _facts(client: Redis) -> ServerFacts:
    try:
        info: dict[str, Any] = await client.info()
    except (NoPermissionError, ResponseError):
        return ServerFacts()
    return ServerFacts(str(info.get("redis_version", "")), str(info.get("maxmemory_policy", "")))


def _judge_permissions(found: Denied, prefix: str) -> None:
    for command in found.helpful:
        log.warning("the Redis user may not run %s: %s", command.replace("|", " "), HELPFUL[command])
    if found.own_keys:
        lost = "checkpoints of jobs, counts of process deaths and schedules are not kept, and no pause is ended"
        log.warning("the Redis user may not use the keys %s: %s; %s", own_pattern(prefix), lost, _WANTED)
    if found.needed:
        grants = " ".join(f"+{command}" for command in found.needed)
        raise ServerRefusedError(
            f"the Redis user may not run all that a worker runs on the keys {prefix}:* (redis.url): "
            f"ACL SETUSER name ~{prefix}:* {grants}; {_WANTED}"
        )


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

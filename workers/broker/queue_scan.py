"""The names of the queues in Redis, found by SCAN: many small steps, between which the server does other work."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoPermissionError

#: Keys that one step looks through.
STEP = 5000
_GLOB = re.compile(r"[\\*?\[\]^]")


@dataclass(frozen=True, slots=True)
class Found:
    """What a look through the keys has found."""

    queues: tuple[str, ...]
    is_whole: bool
    """All keys were looked through; else time was up before, or the server does not permit it."""


async def scan(client: Any, prefix: str, *, within_s: float, clock: Callable[[], float] = time.monotonic) -> Found:
    """The queues under this prefix: those whose `meta` is there, as BullMQ's Queue makes it.

    Args:
        within_s: no step is begun after that long.

    Raises:
        redis.exceptions.RedisError, OSError: Redis is away.
    """
    end = clock() + within_s
    pattern = f"{_GLOB.sub(_escaped, prefix)}:*:meta"
    names: set[str] = set()
    cursor: Any = 0
    while True:
        try:
            cursor, keys = await client.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", STEP)
        except NoPermissionError:
            return Found(tuple(sorted(names)), False)
        for key in keys:
            name = str(key).removeprefix(f"{prefix}:").removesuffix(":meta")
            if name and ":" not in name:  # a job whose id ends like that is no queue
                names.add(name)
        if int(cursor) == 0:
            return Found(tuple(sorted(names)), True)
        if clock() >= end:
            return Found(tuple(sorted(names)), False)


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"

"""How much waits in the queues: what is added to, and what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.schema import FleetConfig, QueueConfig
from workers.broker.endpoint import Endpoint
from workers.broker.stats import StatsReader
from workers.ops.queue_watch import QueueWatch
from workers.queue_service import Admission, Limits
from workers.runtime.selection import Selection


def admission(config: FleetConfig, client: Any, queues: Mapping[str, QueueConfig]) -> Admission:
    """What is known of how much waits in these queues; `admit` says whether one may be added to.

    Args:
        client: commands, of an Endpoint; closed by the caller.
    """
    limits, rates = depth_limits(queues)
    reader = StatsReader(client, config.redis.prefix, rates=rates)
    return Admission(reader, limits, timeout_s=config.redis.command_timeout)


def depth_limits(queues: Mapping[str, QueueConfig]) -> tuple[dict[str, Limits], dict[str, int]]:
    """How much may wait, and how many may start in one span, by queue."""
    limits = {queue: Limits(depth=entry.limits.depth, age_s=entry.limits.age) for queue, entry in queues.items()}
    return limits, {queue: entry.rate.count for queue, entry in queues.items() if entry.rate is not None}


def backlog(queues: Admission, queue: str) -> int:
    """Jobs that wait in the queue, as last seen; 0 where nothing was. No I/O."""
    state = queues.state(queue)
    return state.stats.backlog if state is not None else 0


def watch(config: FleetConfig, chosen: Selection, endpoint: Endpoint) -> tuple[Admission, QueueWatch]:
    """What is known of the served queues, and who keeps it fresh: one in each pod."""
    client = endpoint.commands()
    queues = admission(config, client, chosen.served)
    return queues, QueueWatch(queues, close=client.aclose)

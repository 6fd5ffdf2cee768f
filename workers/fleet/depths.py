"""How much waits in the queues: what is added to, and what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.schema import FleetConfig, QueueConfig
from workers.broker.stats import StatsReader
from workers.queue_service import Admission, Limits


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

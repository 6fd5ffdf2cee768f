"""The façade: all that can be asked of queues, for Python, the CLI and the HTTP API alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from config.schema import FleetConfig
from workers.broker.client import FleetRedis
from workers.broker.endpoint import Endpoint
from workers.queue_service.acting import Acting
from workers.queue_service.audit import Audit, log_act
from workers.queue_service.looking import Looking


class QueueService:
    """Looks and acts. Nothing leaves it but results and QueueServiceError; see Looking and Acting for each.

    Belongs to one event loop; connects to nothing until it is asked.
    """

    def __init__(self, looking: Looking, acting: Acting) -> None:
        self.queues = looking.queues
        self.get_queue_status = looking.get_queue_status
        self.throughput = looking.throughput
        self.metrics = looking.metrics
        self.priorities = looking.priorities
        self.events = looking.events
        self.job = looking.job
        self.jobs = looking.jobs
        self.logs = looking.logs
        self.children = looking.children
        self.get_task_details = looking.get_task_details
        self.get_task_statuses = looking.get_task_statuses

        self.pause_queue = acting.pause_queue
        self.resume_queue = acting.resume_queue
        self.drain = acting.drain
        self.clean = acting.clean
        self.retry = acting.retry
        self.promote = acting.promote
        self.remove = acting.remove
        self.cancel = acting.cancel
        self.change_priority = acting.change_priority
        self.change_delay = acting.change_delay
        self.change_data = acting.change_data
        self.move = acting.move
        self.replay = acting.replay
        self.bulk = acting.bulk
        self.change_task_status = acting.change_task_status

        self.close = looking.close
        """Ends what listens to events. Legal at any time, also twice."""


def queue_service(
    config: FleetConfig, endpoint: Endpoint, client: FleetRedis, *, audit: Audit = log_act
) -> QueueService:
    """The service over this configuration's queues.

    Args:
        client: commands of the endpoint; closed by the caller, after the service.
        audit: told every act; must not block. Defaults to a line in the log.
    """
    rates = {name: entry.rate.count for name, entry in config.queues.items() if entry.rate is not None}
    timeout_s = config.redis.command_timeout
    looking = Looking(endpoint, client, tuple(config.queues), timeout_s=timeout_s, rates=rates)
    return QueueService(looking, Acting(config, client, looking, audit=audit))


@asynccontextmanager
async def connected(config: FleetConfig, endpoint: Endpoint, *, audit: Audit = log_act) -> AsyncIterator[QueueService]:
    """The same with a connection of its own, for one `async with`."""
    client = cast(FleetRedis, endpoint.commands())
    service = queue_service(config, endpoint, client, audit=audit)
    try:
        yield service
    finally:
        await service.close()
        await client.aclose()

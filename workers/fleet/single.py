"""A fleet in one process, and one process of a larger fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from config.schema import FleetConfig
from workers.broker.emitter import Listener
from workers.fleet.api import api_server
from workers.fleet.listeners import telemetry as listen
from workers.fleet.pod import Pod
from workers.fleet.queues import queue_process
from workers.fleet.selected import select
from workers.ops.fleet_service import FleetService
from workers.runtime import settings
from workers.runtime.process import FleetProcess
from workers.runtime.supervision.beat import Beat
from workers.runtime.supervision.brief import PoolBrief, queues_by_pool
from workers.runtime.supervision.view import single
from workers.telemetry import exposition
from workers.telemetry.queue_gauges import QueueGauges


def build_process(
    config: FleetConfig,
    *,
    name: str = "fleet",
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    listeners: Sequence[Listener] = (),
) -> FleetService:
    """All in this process.

    Raises:
        SelectionError: see `select`.
    """
    chosen = select(config, pools, queues)
    endpoint = settings.endpoint(config)
    telemetry = listen(config, endpoint, name, listeners)
    process = queue_process(config, chosen, endpoint, name=name, emit=telemetry.emit)
    pooled = queues_by_pool(chosen)
    pod = Pod.of(config, chosen, endpoint)
    api = api_server(config, endpoint)
    telemetry.registry.register(QueueGauges(pod.queues.states, sides=pod.others.sides))
    return FleetService(
        pod.beside(process),
        telemetry.loop,
        host=config.http.host,
        port=config.http.port,
        metrics=lambda: (exposition.exposition(telemetry.registry), exposition.CONTENT_TYPE),
        close=telemetry.close,
        served=tuple(chosen.served),
        skipped=chosen.skipped,
        view=lambda: single(name, telemetry.beat(process), pooled),
        beside=() if api is None else (api,),
    )


@asynccontextmanager
async def serve_pool(brief: PoolBrief) -> AsyncIterator[tuple[FleetProcess, Callable[[], Beat]]]:
    """One child of a supervisor: the process, not started yet, what it tells of itself, and its telemetry around it."""
    chosen = select(brief.config, None, brief.queues)
    endpoint = settings.endpoint(brief.config)
    telemetry = listen(brief.config, endpoint, brief.name)
    await telemetry.loop.start()
    try:
        process = queue_process(
            brief.config, chosen, endpoint, name=brief.name, emit=telemetry.emit, shared=brief.shared
        )
        yield process, lambda: telemetry.beat(process)
    finally:
        await telemetry.close()

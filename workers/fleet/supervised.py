"""A fleet of processes under a supervisor."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from config.schema import FleetConfig
from workers.broker.endpoint import Endpoint
from workers.broker.takeover import Takeover
from workers.fleet.api import api_server, token_book
from workers.fleet.pod import Pod
from workers.fleet.selected import select
from workers.ops.api.server import ApiServer
from workers.ops.fleet_service import FleetService
from workers.runtime import settings
from workers.runtime.selection import Selection
from workers.runtime.supervision.brief import bounds, queues_by_pool, specs
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.reload import Reload
from workers.runtime.supervision.replacement import Event as ProcessEvent
from workers.runtime.supervision.supervisor import Supervisor
from workers.telemetry import exposition, logs
from workers.telemetry.loop_lag import LoopLag
from workers.telemetry.queue_gauges import QueueGauges
from workers.telemetry.supervision import SupervisionMetrics


def _supervised(
    config: FleetConfig,
    choose: Callable[[FleetConfig], Selection],
    command: Sequence[str],
    shared: Path,
    endpoint: Endpoint,
    processes: SupervisionMetrics,
    pod: Pod,
    api: ApiServer | None,
) -> tuple[Supervisor, Reload]:
    """The supervisor with its hand on its processes' leases, and how it takes over a new configuration."""
    chosen = choose(config)
    leases = Takeover(
        endpoint.commands(),
        config.redis.prefix,
        shared,
        bounds(chosen.served),
        on_poison=lambda queue, job_id: processes.quarantined(queue),
        reconnect=endpoint.reconnect,
    )

    def heard(event: ProcessEvent) -> None:
        if isinstance(event, Death):
            leases.died(event.pid, None if event.expected else event.notice)
            exposition.forget_process(shared, event.pid)
        processes(event)

    def adopt(config: FleetConfig, chosen: Selection) -> None:
        logs.configure(config.log, process="supervisor")
        leases.bound(bounds(chosen.served))
        processes.serves(chosen.served)
        pod.adopt(config, chosen)
        if api is not None:
            api.gate.tokens = token_book(config.api)

    make_specs = partial(specs, command=command, shared=shared, longest_s=settings.longest_s)
    supervisor = Supervisor(
        make_specs(config, chosen),
        emit=heard,
        beside=[leases],
        busy_until=leases.busy_until,
        queues=queues_by_pool(chosen),
    )
    processes.serves(chosen.served)
    on_result = processes.reloaded
    return supervisor, Reload(config, supervisor, choose=choose, specs=make_specs, adopt=adopt, on_result=on_result)


def build_fleet(
    config: FleetConfig,
    command: Sequence[str],
    *,
    pools: Collection[str] | None = None,
    queues: Collection[str] | None = None,
) -> FleetService:
    """A supervisor with `processes` children a pool. `command` starts a child: it reads a PoolBrief from its standard
    input, beats on the descriptor that is its last argument, and runs `serve_pool`.

    Raises:
        SelectionError: see `select`.
    """
    chosen = select(config, pools, queues)
    logs.configure(config.log, process="supervisor")
    shared = Path(tempfile.mkdtemp(prefix="fleet-"))
    endpoint = settings.endpoint(config)
    own = CollectorRegistry()
    processes = SupervisionMetrics(own)
    choose = partial(select, pools=pools, queues=queues)
    pod = Pod.of(config, chosen, endpoint)
    api = api_server(config, endpoint)
    supervisor, reload = _supervised(config, choose, command, shared, endpoint, processes, pod, api)

    async def close() -> None:
        await asyncio.to_thread(shutil.rmtree, shared, True)

    own.register(QueueGauges(pod.queues.states, sides=pod.others.sides, connections=lambda: endpoint.open_connections))

    def metrics() -> tuple[bytes, str]:
        return exposition.merged_exposition(shared) + exposition.exposition(own), exposition.CONTENT_TYPE

    return FleetService(
        pod.beside(supervisor),
        LoopLag(lambda lag_s: processes.see(supervisor.view())),
        host=config.http.host,
        port=config.http.port,
        metrics=metrics,
        close=close,
        served=tuple(chosen.served),
        skipped=chosen.skipped,
        view=supervisor.view,
        reload=reload,
        beside=() if api is None else (api,),
    )

"""A FleetWorker for programs beside the tests (hazards, benchmarks), wired with what a process shares among its queues
as `workers/fleet/queues.py` does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workers.broker.endpoint import Endpoint
from workers.broker.events import Event, WorkerError
from workers.broker.execution import Execute
from workers.broker.renewer import Renewer
from workers.broker.settings import WorkerSettings
from workers.broker.worker import FleetWorker


class Served:
    """One queue's worker and what belongs to it alone.

    Args:
        settings: of WorkerSettings.
    """

    def __init__(
        self,
        execute: Execute,
        *,
        endpoint: Endpoint,
        emit: Callable[[Event], None],
        queue: str = "q",
        **settings: Any,
    ) -> None:
        values = {"name": "fleet", **settings}
        self._client = endpoint.commands()
        self._renewer = Renewer(
            endpoint.commands,
            endpoint.prefix,
            on_error=lambda error: emit(WorkerError(queue=queue, where="renew", error=error)),
        )
        self.worker = FleetWorker(
            queue,
            execute,
            client=self._client,
            blocking=endpoint.blocking(queue, values["name"]),
            prefix=endpoint.prefix,
            settings=WorkerSettings(**values),
            renewer=self._renewer,
            emit=emit,
            types=frozenset({"email-send"}),
        )

    async def stop(self, within_s: float) -> None:
        """Drain, then close the connections."""
        await self.worker.stop(by=time.monotonic() + within_s)
        await self._renewer.stop()
        await self._client.aclose()

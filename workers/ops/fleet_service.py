"""A runner of queues with the server that tells its health and metrics. A Service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from workers.contract import Health, Service
from workers.ops.health import Check
from workers.ops.server import OpsServer
from workers.runtime.process import State
from workers.runtime.supervision.reload import Reload
from workers.runtime.supervision.view import FleetView


class Runner(Service, Protocol):
    """What serves the queues: one process, or a supervisor of several. `stop` drains, and again with a nearer `by`
    (monotonic seconds) it hurries.
    """

    drained: bool
    """After `stop`: every job was finished or handed back."""

    @property
    def started(self) -> bool:
        """Every queue was opened once."""

    @property
    def ready(self) -> bool:
        """Jobs are taken now."""

    def states(self) -> list[State]:
        """Each part's own. No I/O."""


class FleetService:
    """Starts the server before the runner, so that probes are answered while Redis is still away.

    Args:
        runner: serves the queues.
        loop: measures the event loop; gates liveness.
        host, port: where to listen.
        metrics: the exposition and its content type; may be slow.
        close: ends telemetry, last.
        view: what the processes do, for people on this machine. Defaults to nothing.
        reload: takes over a new configuration. Defaults to None: it can't be done.
        beside: what else lives as long: the HTTP API.
        served, skipped: see Selection.
    """

    name = "fleet"

    def __init__(
        self,
        runner: Runner,
        loop: Service,
        *,
        host: str,
        port: int,
        metrics: Callable[[], tuple[bytes, str]],
        close: Callable[[], Awaitable[None]],
        served: Sequence[str],
        skipped: Mapping[str, str],
        view: Callable[[], FleetView] | None = None,
        reload: Reload | None = None,
        beside: Sequence[Service] = (),
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._close = close
        self._closed = False
        self._beside = tuple(beside)
        workers = (lambda: view().json()) if view is not None else None
        self._server = OpsServer(host, port, checks=self.checks, metrics=metrics, workers=workers)
        self.reload = reload
        """Takes over a new configuration; None: it can't be done."""
        self.served = tuple(served)
        self.skipped = dict(skipped)
        """Queues of the configuration that are not served, and why."""

    async def start(self) -> None:
        """Answer probes at once, take jobs as soon as Redis answers.

        Raises:
            OpsServerError: the address can't be listened on.
        """
        await self._server.start()
        for service in self._beside:
            await service.start()
        await self._loop.start()
        await self._runner.start()

    async def wait(self) -> None:
        """Return after `stop`; raise what ended the runner."""
        await self._runner.wait()

    async def stop(self, *, by: float) -> None:
        """Drain by `by` (monotonic seconds); again: hurry."""
        await self._runner.stop(by=by)
        for service in self._beside:
            await service.stop(by=by)
        await self._loop.stop(by=by)
        await self._server.stop(by=by)
        if not self._closed:
            self._closed = True
            await self._close()

    @property
    def url(self) -> str:
        """Of health and metrics; empty before `start`."""
        return self._server.url

    @property
    def drained(self) -> bool:
        """After `stop`: every job was finished or handed back."""
        return self._runner.drained

    def health(self) -> Health:
        """All in one line. No I/O."""
        return self._runner.health()

    def checks(self) -> Sequence[Check]:
        """Named checks for the probes. Only the loop itself gates liveness: a restart mends no dependency."""
        loop = self._loop.health()
        opened = self._runner.started
        return [
            Check("event-loop", loop.ok, loop.detail, frozenset({"live"})),
            Check("opened", opened, "every queue was opened" if opened else "not yet", frozenset({"startup"})),
            *(Check(state.name, state.ok, state.detail) for state in self._runner.states()),
        ]

"""Makes the schedules of fleet.yaml those that BullMQ runs: once at start, as soon as Redis answers, and once for each
new configuration. A Service; one for each pod, whose work comes to nothing where another pod was faster.

It does not look again later: what somebody changes by hand stays, and two fleets with different files that share a
queue don't take back each other's schedules for ever. The one that starts last, or is told last to read its file, has
its way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from workers.broker.reconnect import RECONNECT, Reconnect
from workers.broker.result import message
from workers.contract import Health
from workers.ops.health import Check
from workers.queue_service import QueueUnavailableError
from workers.queue_service.scheduling import ReconcileReport, Scheduling

log = logging.getLogger(__name__)

#: Characters of an error that are shown.
MAX_DETAIL = 500


class ScheduleSync:
    """Does it.

    Args:
        scheduling: the schedules; its connection is closed by whoever made it, after this has stopped.
        reconnect: the waits between tries while Redis is away.
        on_done: told each report.
    """

    name = "schedules"

    def __init__(
        self,
        scheduling: Scheduling,
        *,
        reconnect: Reconnect = RECONNECT,
        on_done: Callable[[ReconcileReport], None] = lambda report: None,
    ) -> None:
        self.scheduling = scheduling
        self._reconnect = reconnect
        self._on_done = on_done
        self._asked = asyncio.Event()
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._detail = "not looked yet"

    async def start(self) -> None:
        """Begin; Redis need not be there yet.

        Raises:
            RuntimeError: it was started or stopped before.
        """
        if self._task is not None or self._stopped.is_set():
            raise RuntimeError("the schedules are kept already, or were; make a new ScheduleSync")
        self.ask()
        self._task = asyncio.create_task(self._run(), name="schedules")
        self._task.add_done_callback(lambda _: self._stopped.set())

    def ask(self) -> None:
        """Do it once more: other ones are declared."""
        self._asked.set()

    async def wait(self) -> None:
        """Return after `stop`; raise what ended it."""
        await self._stopped.wait()
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def stop(self, *, by: float) -> None:
        """End; return by `by` (monotonic seconds), whatever Redis does. Idempotent; legal before `start`."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=max(0.0, by - time.monotonic()))

    def health(self) -> Health:
        """What came of it last. No I/O."""
        if self._task is None or self._task.done() or self._stopped.is_set():
            return Check(self.name, False, "not kept", frozenset())
        return Check(self.name, True, self._detail, frozenset())

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._until_done()

    async def _until_done(self) -> None:
        failures = 0
        while True:
            try:
                report = await self.scheduling.reconcile()
            except Exception as error:
                failures += 1
                self._fail(error, failures)
                await asyncio.sleep(self._reconnect.wait_s(failures))
            else:
                self._tell(report)
                return

    def _fail(self, error: Exception, failures: int) -> None:
        self._detail = message(error, MAX_DETAIL)
        if failures > 1:
            return
        if isinstance(error, QueueUnavailableError):
            log.warning("the schedules of fleet.yaml are not looked at yet: %s; trying again", self._detail)
        else:  # a defect of ours
            log.error("the schedules of fleet.yaml could not be looked at; trying again", exc_info=error)

    def _tell(self, report: ReconcileReport) -> None:
        self._detail = str(report)
        for step in report.steps:
            problem = report.problems.get((step.queue, step.id))
            if problem:
                log.warning("schedule %s of queue %s was not written: %s", step.id, step.queue, problem)
            elif step.is_notable:
                log.warning("schedule %s of queue %s: %s", step.id, step.queue, step.reason)
        if report.steps:
            log.info("schedules of fleet.yaml: %s", report)
        self._on_done(report)

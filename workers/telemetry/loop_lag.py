"""How late the event loop is: whatever blocks it delays every job, and the renewal of locks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.contract import Service

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """The answer of `LoopLag.health`."""

    ok: bool
    detail: str
    """One line for a person."""


class LoopLag:
    """A Service that wakes at a fixed interval, measures how late it woke, and reports the worst of late.

    Args:
        report: called on the loop after each measurement with the worst lag of the window, in seconds.
        interval_s: between two measurements. Defaults to 0.5.
        window_s: how far back the worst counts: a scrape interval, so that no scrape misses it. Defaults to 30.
        stuck_after_s: without a measurement for so long, the loop is reported as stuck. Defaults to 30.
        beside: services that watch the same loop, started and stopped with it. Defaults to none.
        clock: monotonic seconds. Defaults to `time.monotonic`.
    """

    name = "event-loop"

    def __init__(
        self,
        report: Callable[[float], None],
        *,
        interval_s: float = 0.5,
        window_s: float = 30.0,
        stuck_after_s: float = 30.0,
        beside: Sequence[Service] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._interval_s = interval_s
        self._lags: deque[float] = deque(maxlen=max(1, round(window_s / interval_s)))
        self._stuck_after_s = stuck_after_s
        self._beside = tuple(beside)
        self._clock = clock
        self._measured_at: float | None = None
        self._reporting = True
        self._task: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    @property
    def worst_s(self) -> float:
        """The worst lag of the window, in seconds."""
        return max(self._lags, default=0.0)

    async def start(self) -> None:
        """Measure from now on.

        Raises:
            RuntimeError: it was started or stopped before.
        """
        if self._task is not None or self._stopped.is_set():
            raise RuntimeError("the event loop is measured already, or was stopped; make a new LoopLag")
        self._measured_at = self._clock()
        self._task = asyncio.create_task(self._measure(), name="loop-lag")
        self._task.add_done_callback(lambda _: self._stopped.set())
        for service in self._beside:
            await service.start()

    async def wait(self) -> None:
        """Return after `stop`; raise what ended the measuring."""
        await self._stopped.wait()
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def stop(self, *, by: float) -> None:
        """Measure no more; return by `by` (monotonic seconds). Idempotent; legal before `start`."""
        self._stopped.set()
        for service in self._beside:
            await service.stop(by=by)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=max(0.0, by - time.monotonic()))

    def health(self) -> LoopHealth:
        """Whether the loop turned lately. Asked from a thread, it tells even while the loop is stuck."""
        if self._measured_at is None or self._task is None or self._task.done():
            return LoopHealth(ok=False, detail="not measured")
        silence = self._clock() - self._measured_at
        if silence > self._stuck_after_s:
            return LoopHealth(ok=False, detail=f"no turn for {silence:.1f} s")
        return LoopHealth(ok=True, detail=f"worst lag {self.worst_s * 1000:.0f} ms")

    async def _measure(self) -> None:
        while True:
            due = self._clock() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self._measured_at = self._clock()
            self._lags.append(max(0.0, self._measured_at - due))
            try:
                self._report(self.worst_s)
            except Exception:
                if self._reporting:
                    log.exception("the lag of the event loop can't be reported")
                self._reporting = False  # said once; it is measured on

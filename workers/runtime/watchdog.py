"""Names what blocks the event loop: a thread looks at the loop's thread while the loop does not turn. A Service.

While one callback keeps the loop, nothing else in the process goes on, and the loop can't tell. So the thread says it
while it lasts, and the loop when it is over, with the job whose code was executed and the frames it was in. Where the
thread can't run either, because a regular expression holds the GIL, the loop's own thread looks right after that
(processor_timer.py). Who is to blame is judged in blockage.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from workers.broker import running, spans
from workers.broker.events import LoopBlocked
from workers.broker.running import Running
from workers.runtime.blockage import Block, Finding, Look, find
from workers.runtime.processor_timer import ProcessorTimer
from workers.runtime.stack import Stack, glance, of_frame, of_thread

log = logging.getLogger(__name__)

#: The least block that is told, seconds: short of what people notice, far above the turns of a busy loop.
THRESHOLD_S = 0.5
#: Between two turns that are waited for, as a share of the threshold: a block is measured too short by that much.
TICK = 1 / 5
#: From which share of the threshold on it is looked, and how often.
FIRST_LOOK, LOOK_EVERY = 1 / 2, 1 / 4
#: After how much computing without a turn the loop's thread looks itself, in ticks: more than one, or it would when it
#: is merely busy; not many, or it would not on a machine that is.
COMPUTED = 1.2
#: In a long block the looks become rarer: one after each such share of the time that it lasts.
RARER = 1 / 16


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """The answer of `Watchdog.health`."""

    ok: bool
    detail: str
    """One line for a person."""


@dataclass(slots=True)
class _Turn:
    """From one turn of the loop to the next."""

    due: float
    """When the next turn should come."""
    process_s: float
    loop_s: float
    held_up_s: float = 0.0
    collector_s: float = 0.0
    looked_at: float = 0.0
    looks: list[Look] = field(default_factory=list)
    said: bool = False

    def look(
        self, now: float, stack: Stack, job: Running | None, threads: Mapping[Running, Stack], *, exact: bool = False
    ) -> None:
        """Note what was seen; it stands for the time since the look before."""
        since = self.looked_at or self.due
        self.looked_at = now
        self.looks.append(Look(now - since, stack, job, threads, exact))


class Watchdog:
    """Watches the loop on which it is started.

    Args:
        emit: told each block when it is over, on the loop.
        tell: told a block that goes on, once, in the watching thread; must be fit for that.
        late: told how late the loop is while it is blocked, seconds, in the watching thread. Defaults to nothing.
        describe: how a stack is written on a span: without secrets. Defaults to as it is.
        threshold_s: the least block that counts. Defaults to 0.5.
    """

    name = "watchdog"

    def __init__(
        self,
        emit: Callable[[LoopBlocked], None],
        tell: Callable[[LoopBlocked], None],
        *,
        late: Callable[[float], None] = lambda seconds: None,
        describe: Callable[[str], str] = str,
        threshold_s: float = THRESHOLD_S,
    ) -> None:
        self._emit = emit
        self._tell = tell
        self._late = late
        self._describe = describe
        self._threshold_s = threshold_s
        self._tick_s = threshold_s * TICK
        self._turn = _Turn(float("inf"), 0.0, 0.0)
        self._wake_at = float("inf")
        self._collecting_since = 0.0
        self._processor_timer = ProcessorTimer(self._caught)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._stopped = asyncio.Event()
        self._blocks, self._worst_s, self._last = 0, 0.0, ""
        self._failed = False

    async def start(self) -> None:
        """Watch from now on.

        Raises:
            RuntimeError: it was started or stopped before, or the system has no thread left.
        """
        if self._thread is not None or self._stopped.is_set():
            raise RuntimeError("the event loop is watched already, or was no longer to be; make a new Watchdog")
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._processor_timer.install()
        self._touch(self._loop)
        gc.callbacks.append(self._collected)
        self._thread = threading.Thread(target=self._watch, args=(self._loop,), name="fleet-watchdog", daemon=True)
        self._thread.start()

    async def wait(self) -> None:
        """Return after `stop`."""
        await self._stopped.wait()

    async def stop(self, *, by: float) -> None:
        """Watch no more; return by `by` (monotonic seconds). Idempotent; legal before `start`."""
        self._end.set()
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        self._processor_timer.remove()
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)
        if self._thread is not None and self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, max(0.0, by - time.monotonic()))

    def health(self) -> WatchHealth:
        """Whether it watches, and what it saw last."""
        if self._thread is None or not self._thread.is_alive() or self._stopped.is_set():
            return WatchHealth(False, "not watching")
        return WatchHealth(True, f"blocked {self._blocks} times, last by {self._last}" if self._blocks else "no block")

    def numbers(self) -> dict[str, float | str]:
        """What a supervisor is told: blocks so far, the longest in seconds, and who was the last."""
        numbers: dict[str, float | str] = {"loop_blocks": float(self._blocks)}
        if self._blocks:
            numbers |= {"loop_blocked_worst_s": round(self._worst_s, 3), "loop_blocked_last": self._last}
        return numbers

    # --------------------------------------------------------------- on the loop

    def _touch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turn = _Turn(time.monotonic() + self._tick_s, time.process_time(), time.thread_time())
        self._processor_timer.arm(self._tick_s * COMPUTED)
        self._timer = loop.call_later(self._tick_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now, turn = time.monotonic(), self._turn
        try:
            if now - turn.due >= self._threshold_s:
                self._over(turn, now)
        except Exception:
            self._fail()
        finally:
            self._touch(loop)

    def _caught(self, frame: FrameType | None) -> None:
        """Between two instructions of the loop's thread, after a time of computing without a turn."""
        turn, now = self._turn, time.monotonic()
        first = turn.due + self._threshold_s * FIRST_LOOK
        if now >= first:
            turn.look(now, of_frame(frame), running.current(), _threads(), exact=True)
        self._processor_timer.arm(max(self._tick_s * COMPUTED, (now - turn.due) * RARER))

    def _over(self, turn: _Turn, now: float) -> None:
        held_up_s = turn.held_up_s + max(0.0, now - max(self._wake_at, turn.due))  # it may be about to wake still
        blocked_s = now - turn.due
        finding = find(self._block(turn, blocked_s, held_up_s, time.thread_time() - turn.loop_s))
        event = self._event(finding, blocked_s, over=True)
        self._blocks += 1
        self._worst_s = max(self._worst_s, blocked_s)
        self._last = f"{finding.queue}/{finding.task_type} for {blocked_s:.1f} s"
        if finding.running is not None:
            spans.blocked(finding.running.span, blocked_s, self._describe(event.stack))
        self._emit(event)

    def _block(self, turn: _Turn, blocked_s: float, held_up_s: float, loop_s: float | None) -> Block:
        return Block(
            blocked_s=blocked_s,
            threshold_s=self._threshold_s,
            watched_s=blocked_s - self._threshold_s * FIRST_LOOK,
            held_up_s=held_up_s,
            process_s=time.process_time() - turn.process_s,
            loop_s=loop_s,
            collector_s=turn.collector_s,
            looks=tuple(turn.looks),
        )

    def _event(self, finding: Finding, blocked_s: float, *, over: bool) -> LoopBlocked:
        job = finding.running
        return LoopBlocked(
            queue=finding.queue,
            task_type=finding.task_type,
            job_id=job.job_id if job is not None else "",
            blocked_s=blocked_s,
            stack=finding.text(),
            trace_id=spans.trace_id(job.span) if job is not None else "",
            over=over,
        )

    # ------------------------------------------------------------- in the thread

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = self._tick_s
        while True:
            self._wake_at = time.monotonic() + pause
            if self._end.wait(pause) or not loop.is_running():
                return
            turn, woken_at = self._turn, time.monotonic()
            overslept_s = woken_at - max(self._wake_at, turn.due)
            self._wake_at = float("inf")  # what it does now, a log that is full for one, is no oversleeping
            try:
                pause = self._look(loop, turn, woken_at, overslept_s)
            except Exception:
                self._fail()

    def _look(self, loop: asyncio.AbstractEventLoop, turn: _Turn, now: float, overslept_s: float) -> float:
        """Look if the loop is late; returns the seconds until the next look."""
        held_up = overslept_s > self._tick_s
        if held_up:
            turn.held_up_s += overslept_s
        first = turn.due + self._threshold_s * FIRST_LOOK
        if now < first:
            return first - now
        seen = glance(loop, self._loop_thread)
        turn.look(now, seen.stack, running.of(seen.context) if seen.context is not None else None, _threads())
        blocked_s = now - turn.due
        if blocked_s >= self._threshold_s and not held_up:
            if not turn.said:
                turn.said = True
                finding = find(self._block(turn, blocked_s, turn.held_up_s, None))
                self._tell(self._event(finding, blocked_s, over=False))
            self._late(blocked_s)
        return self._next_look_s(blocked_s)

    def _next_look_s(self, blocked_s: float) -> float:
        return max(self._threshold_s * LOOK_EVERY, blocked_s * RARER)

    # ------------------------------------------------------------------- in both

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since = time.monotonic()
        else:
            self._turn.collector_s += time.monotonic() - self._collecting_since

    def _fail(self) -> None:
        if not self._failed:  # said once; it is watched on
            log.exception("what blocks the event loop can't be told")
        self._failed = True


def _threads() -> dict[Running, Stack]:
    return {job: of_thread(ident) for ident, job in running.threads().items()}

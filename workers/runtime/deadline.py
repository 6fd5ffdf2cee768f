"""Drives one run along its ladder: asks, cancels, kills, and takes the slot back when the host wants it.

The driver waits on the run's task and never awaits it. It sleeps on one future, which the end of the run, an interrupt,
an answer of the run and the ladder's timer all wake.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from workers.broker.events import RungName
from workers.broker.hold import Hold, Interrupt
from workers.contract import StopRequest, TimeUp
from workers.runtime import containment, ladder
from workers.runtime.alarm import Alarm
from workers.runtime.containment import EscapedError
from workers.runtime.ladder import Climb, Position
from workers.runtime.requests import Requests
from workers.runtime.run_end import Interrupted, Returned, RunEnd, TimedOut, own_end, seconds

log = logging.getLogger(__name__)

#: What a run that is cancelled gets to clean up at least, however little an interrupt of its host leaves: enough for
#: one that has nothing to clean up, seconds. After a kill that an interrupt hurries, its slot waits as long again.
MIN_CLEANUP_S = 0.05
#: How much later than planned a rung may begin without the failure saying so, seconds.
LATE_S = 1.0


#: Runs that were left behind; kept from the garbage collector, which would only complain about them.
_abandoned: set[asyncio.Task[Any]] = set()


def drive(
    work: Callable[[], Awaitable[Any]],
    hold: Hold,
    climb: Climb,
    *,
    requests: Requests | None = None,
    kill: Callable[[], None] = lambda: None,
    on_rung: Callable[[RungName, float, int], None] = lambda rung, after_s, attempt: None,
    alarm: Alarm | None = None,
) -> Coroutine[Any, Any, RunEnd]:
    """Run `work` until it ends, its ladder does or an interrupt is due, whichever is first. Raises nothing of the
    run's. Work that is interrupted before its first step is never called.

    Args:
        climb: the run's rungs; their time counts from now.
        requests: where the run sees what it is asked. None: it can't see it.
        kill: the force behind the last rung, where there is any.
        on_rung: told of each try of a rung, see Hold.
        alarm: shared by the runs of one loop.
    """
    return _Driver(hold, climb, requests or Requests(hold), kill, on_rung, alarm or Alarm()).run(work)


class _Driver:
    """One run. What is left alone by a run that just ends is in the class, not in each object."""

    _position: Position = ladder.START
    _overdue = False
    """The ladder has said that the run's time is up; at which rung it last did, and after how many seconds."""
    _overdue_at: RungName = "cancel"
    _overdue_s: float = 0.0
    _interrupt: Interrupt | None = None
    """What the run was cancelled for; None: for its ladder, or not at all."""
    _cut_at: float | None = None
    """When it was cancelled, monotonic seconds."""
    _killed_at: float | None = None
    _left = False
    _waiter: asyncio.Future[None] | None = None
    _loop: asyncio.AbstractEventLoop
    _task: asyncio.Task[Any]
    _started: float
    _look: float
    """When the ladder is to be looked at, monotonic seconds."""
    _stirred: bool
    """Something has happened that the driver may have to act on."""

    def __init__(
        self,
        hold: Hold,
        climb: Climb,
        requests: Requests,
        kill: Callable[[], None],
        on_rung: Callable[[RungName, float, int], None],
        alarm: Alarm,
    ) -> None:
        self._hold = hold
        self._climb = climb
        self._requests = requests
        self._kill = kill
        self._on_rung = on_rung
        self._alarm = alarm

    async def run(self, work: Callable[[], Awaitable[Any]]) -> RunEnd:
        loop = self._loop = asyncio.get_running_loop()
        task = self._task = containment.start(loop, self._contained(work))
        self._started = time.monotonic()
        look = self._look = self._started + self._climb.starts_s[0]
        stir = self._stir
        task.add_done_callback(stir)  # for one that is cancelled before its first step
        self._hold.on_interrupt = self._interrupted
        self._requests.on_answer = stir
        self._stirred = self._hold.interrupt is not None
        try:
            while not task.done():
                if not self._stirred:
                    await self._sleep(look)
                self._stirred = False
                if not task.done():
                    look = self._advance()
                if self._left:
                    break
            return self._end()
        finally:
            self._hold.on_interrupt = self._requests.on_answer = None
            self._alarm.clear(stir)
            if self._cut_at is not None or not task.done():
                _let_go(task)

    # ------------------------------------------------------------------ sleeping

    async def _contained(self, work: Callable[[], Awaitable[Any]]) -> Any:
        self._task.remove_done_callback(self._stir)
        try:
            return await work()
        except (SystemExit, KeyboardInterrupt) as error:  # of all exceptions, these would leave the task and the loop
            raise EscapedError(error) from error
        finally:
            self._stir()  # sooner than a callback of the task, which is done before the driver is woken

    def _sleep(self, until: float) -> asyncio.Future[None]:
        """Done when something stirs, at that time (monotonic seconds) at the latest."""
        self._alarm.set(self._stir, until, self._loop)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _stir(self, task: asyncio.Task[Any] | None = None) -> None:
        self._stirred = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _interrupted(self) -> None:
        self._requests.changed()
        self._stir()

    # ----------------------------------------------------------------- advancing

    def _advance(self) -> float:
        """Do what is due; returns when to look again, monotonic seconds."""
        now = time.monotonic()
        interrupt = self._hold.interrupt
        if interrupt is None:
            return self._climbed(now)
        if self._cut_at is None and interrupt.by <= min(now, self._started + self._climb.cut_s):
            self._interrupt = interrupt
            self._cut(now)
        if self._cut_at is None:
            return min(interrupt.by, self._climbed(now))
        hurried = self._wind_up(now, self._cut_at, interrupt)
        return hurried if self._left or self._interrupt is not None else min(hurried, self._climbed(now))

    def _wind_up(self, now: float, cut_at: float, interrupt: Interrupt) -> float:
        """Let a cancelled run clean up for as long as the interrupt allows, then kill it, then leave it."""
        end = interrupt.by + interrupt.cleanup_s
        if self._interrupt is not None:  # else its ladder has a time for that
            end = min(end, cut_at + ladder.CLEANUP_S)
        end = max(end, cut_at + MIN_CLEANUP_S)
        if now >= end and self._killed_at is None:
            self._force(now)
        if self._killed_at is None:
            return end
        if now >= max(end, self._killed_at) + MIN_CLEANUP_S:
            self._leave()
        return max(end, self._killed_at) + MIN_CLEANUP_S

    def _climbed(self, now: float) -> float:
        """Take the rungs that are due; returns when the next may be, monotonic seconds."""
        if now < self._look and not self._requests.answered:
            return self._look
        while not self._left:
            answered, self._requests.answered = self._requests.answered, False
            step = ladder.step(self._climb, self._position, now - self._started, answered=answered)
            self._position = step.position
            self._look = self._started + step.look_s
            if step.do is None:
                break
            if step.do == "leave":
                self._leave()
                break
            self._take(step.do, now)
        return self._look

    def _take(self, rung: RungName, now: float) -> None:
        elapsed_s = now - self._started
        if rung in ladder.ENDING:
            planned_s = self._climb.starts_s[self._position.rung]
            self._overdue, self._overdue_at = True, rung
            self._overdue_s = planned_s if 0 <= elapsed_s - planned_s < LATE_S else elapsed_s
        self._ask(rung, elapsed_s)
        self._on_rung(rung, elapsed_s, self._position.tried)
        if rung in ladder.FORCING and self._cut_at is None:
            self._cut(now)
        if rung == "kill":
            self._force(now)

    def _ask(self, rung: RungName, elapsed_s: float) -> None:
        if rung == "warn" or rung == "checkpoint":
            self._requests.ask(checkpoint=rung == "checkpoint")
            return
        by = self._started + ladder.until_s(self._climb, self._position)
        if rung == "pause":
            stop = StopRequest(kind="pause", reason=f"set aside by its ladder after {seconds(elapsed_s)}", by=by)
        else:
            stop = StopRequest(kind="deadline", reason=f"its time is up after {seconds(elapsed_s)}", by=by)
        self._requests.ask(stop, binding=rung in ladder.FORCING)

    def _cut(self, now: float) -> None:
        self._cut_at = now
        self._task.cancel()

    def _force(self, now: float) -> None:
        self._killed_at = now
        try:
            self._kill()
        except Exception:
            log.exception("a run could not be killed")

    def _leave(self) -> None:
        self._left = True
        log.error("a processor ignores its cancellation; its slot goes on without it")

    # -------------------------------------------------------------------- ending

    def _end(self) -> RunEnd:
        """A lost lock outranks everything; a result that the run still returned, its cancellation."""
        task, interrupt = self._task, self._hold.interrupt
        if self._cut_at is None:
            end = own_end(task)
            return self._time_up(end) if isinstance(end, Returned) else end
        if interrupt is not None and interrupt.kind == "lock_lost":
            return Interrupted(interrupt, not task.done())
        if task.done() and not task.cancelled() and task.exception() is None:
            return self._time_up(Returned(task.result()))
        if self._interrupt is not None:
            return Interrupted(self._interrupt, not task.done())
        return TimedOut(self._overdue_s, not task.done(), self._overdue_at)

    def _time_up(self, end: Returned) -> RunEnd:
        """A run that was asked to stop, and did, has timed out."""
        if isinstance(end.value, TimeUp) and self._overdue:
            return TimedOut(self._overdue_s, False, self._overdue_at)
        return end


def _let_go(task: asyncio.Task[Any]) -> None:
    """Leave nothing behind that asyncio would complain about: a run goes on alone, or its error was never asked for."""
    if task.done():
        _forget(task)
        return
    task.cancel()  # the first time where the slot is torn down; else once more, which some loops need
    _abandoned.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()

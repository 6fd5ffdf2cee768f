"""One process of a pool and its successors: restarted with backoff when it dies, replaced when it is to be."""

from __future__ import annotations

import asyncio
import logging
import time

from workers.runtime.process import State
from workers.runtime.supervision import child_view, death
from workers.runtime.supervision.child_view import History
from workers.runtime.supervision.life import BusyUntil, Life
from workers.runtime.supervision.replacement import Emit, Event, Recycled, Replacement
from workers.runtime.supervision.spec import ChildSpec
from workers.runtime.supervision.view import ProcessView

__all__ = ["Emit", "Event", "PoolChild", "Recycled", "RefusedToStartError"]

log = logging.getLogger(__name__)


class RefusedToStartError(Exception):
    """A process refused to start for a reason that a restart can't mend; its own message was logged."""


class PoolChild:
    """A place in a pool.

    Args:
        spec: how its processes start.
        emit: told each end of a process before a successor may get its id, and each replacement.
        busy_until: see Life.
        essential: a refusal to start is raised; else it is told in the state, and tried again after the longest wait.
    """

    def __init__(
        self,
        spec: ChildSpec,
        emit: Emit = lambda event: None,
        busy_until: BusyUntil = lambda pid: None,
        *,
        essential: bool = True,
    ) -> None:
        self.spec = spec
        """That of the next process; the present one may have another."""
        self.current: Life | None = None
        """The process that works."""
        self.successor: Life | None = None
        """Takes over where the current one ends."""
        self.stopping = asyncio.Event()
        self.history = History()
        self.replacement = Replacement(self)
        self.drained = True
        """After `stop`: every process ended as one that has finished or handed back its jobs."""
        self._emit = emit
        self._busy_until = busy_until
        self._essential = essential
        self._lives: dict[Life, asyncio.Task[None]] = {}
        self._worked: ChildSpec | None = None
        """The last one of a process that has started and ended."""
        self._turn = asyncio.Event()
        """A process has ended, or another one works now."""
        self._notice = ""
        self._deaths_in_a_row = 0
        self._restart_at = 0.0

    # ------------------------------------------------------------------ its life

    async def run(self) -> None:
        """Start, watch, restart; returns when stopped, raises RefusedToStartError."""
        try:
            while not self.stopping.is_set():
                await self._after(await self._serve())
        finally:
            await self._ends()

    async def _serve(self) -> Life:
        """A process, and those that replace it, until one ends whose place nobody takes."""
        self.current = life = self.begin(self.spec)
        while True:
            self._turn.clear()
            if not life.over.is_set():
                await self._turn.wait()
            elif self.current is life:
                self.current, self.successor = self.successor, None
            if self.current is None:
                if life.error is not None:
                    raise life.error
                return life
            life = self.current

    def hand_over(self, life: Life) -> None:
        """The successor works from now on."""
        self.current, self.successor = life, None
        self._turn.set()

    async def _after(self, life: Life) -> None:
        """Wait before the next one."""
        if self.stopping.is_set() or (life.death is not None and life.death.expected):
            return
        early = time.monotonic() - life.born_at < death.CALM_S
        self._deaths_in_a_row = self._deaths_in_a_row + 1 if early else 1
        delay, self._notice = death.restart_delay_s(self._deaths_in_a_row), life.notice
        if life.refused:
            if self._essential:
                raise RefusedToStartError(life.refused)
            delay, self._notice = death.RESTART_MAX_S, "refused to start (its log says why)"
        log.error("process %s %s; restarting it in %.1f s", self.spec.name, life.notice, delay)
        self._restart_at = time.monotonic() + delay
        try:
            await asyncio.wait_for(self.stopping.wait(), delay)
        except TimeoutError:
            return

    def begin(self, spec: ChildSpec) -> Life:
        """Start a process."""
        life = Life(spec, self._busy_until)
        self._lives[life] = asyncio.create_task(self._live(life))
        return life

    async def _live(self, life: Life) -> None:
        try:
            await life.run()
        except Exception as error:
            log.exception("process %s can't be watched any more", self.spec.name)
            life.error = error
        finally:
            del self._lives[life]
            self._ended(life)
            life.over.set()
            self._turn.set()

    def _ended(self, life: Life) -> None:
        if life.started.is_set():
            self._worked = life.spec
        if self.stopping.is_set():
            self.drained = self.drained and life.drained
        if life.death is None:
            return
        if not life.death.expected:
            self.history.deaths += 1
            self.history.last_death = life.death.notice
        self.tell(life.death)

    def tell(self, event: Event) -> None:
        """Emit it; a listener that fails is logged."""
        try:
            self._emit(event)
        except Exception:
            log.exception("what was to be done about process %s failed", self.spec.name)

    async def _ends(self) -> None:
        """Every process of this place has ended."""
        while lives := tuple(self._lives):
            for life in lives:
                await life.over.wait()
        await self.replacement.ends()

    # ----------------------------------------------------------- a new configuration

    def adopt(self, spec: ChildSpec) -> None:
        """Start the next process like this. One that would start in another way and has not started yet ends now; one
        that works is to be replaced.
        """
        self.spec = spec
        self.replacement.retry_now()
        life = self.current
        if life is not None and not life.started.is_set() and not life.spec.starts_like(spec):
            life.drain(spec.grace_s)

    def revert(self) -> None:
        """Start the next process like the last one that has worked."""
        life = self.current
        worked = life.spec if life is not None and life.started.is_set() else self._worked
        if worked is not None:
            self.spec = worked

    # ------------------------------------------------------------------ its end

    def stop(self, *, within_s: float | None = None) -> None:
        """Drain, and no restart; again: hurry. With `within_s` what has not ended by then is killed."""
        self.stopping.set()
        for life in self._lives:
            life.drain(within_s)

    def kill(self) -> None:
        """SIGKILL to what is left of a drain."""
        for life in self._lives:
            life.kill("drain")

    # ---------------------------------------------------------- what is known of it

    @property
    def pids(self) -> list[int]:
        """Of its processes; 0 for one that is being started."""
        return [life.pid for life in self._lives]

    @property
    def started(self) -> bool:
        """A process has opened its queues once."""
        return self._worked is not None or (self.current is not None and self.current.started.is_set())

    def states(self) -> list[State]:
        """What is known about the process that works, or should. No I/O."""
        life = self.current
        return [State(self.spec.name, False, self._absence())] if life is None or not life.pid else life.states()

    def views(self) -> list[ProcessView]:
        """Each process, those that start or end included; or a dead one in place of them. No I/O."""
        absence, replacing = self._absence(), self.successor is not None
        return child_view.views(self.spec, self.history, self._lives, self.current, absence, replacing=replacing)

    def _absence(self) -> str:
        if self.stopping.is_set():
            return "stopped"
        if not self._notice:
            return "not started"
        left = max(0.0, self._restart_at - time.monotonic())
        deaths = "1 death" if self._deaths_in_a_row == 1 else f"{self._deaths_in_a_row} deaths"
        return f"{self._notice}, restarting in {left:.0f} s ({deaths})"

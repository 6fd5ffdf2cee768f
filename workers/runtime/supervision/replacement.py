"""Replaces the process in one place by a fresh one, without a break in service.

The successor starts first, and when it has opened its queues, and not died of its first jobs, the old process drains,
beside it. A successor that dies meanwhile, or takes too long, is given up: the old process goes on, since one that
works is worth more than a limit, and the next try follows later. An old process that dies while its successor starts
leaves the place to it at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from workers.runtime.supervision import recycle, vitals
from workers.runtime.supervision.child_view import History
from workers.runtime.supervision.death import Death
from workers.runtime.supervision.life import Life
from workers.runtime.supervision.recycle import Candidate, Reason, Recycle
from workers.runtime.supervision.spec import ChildSpec

log = logging.getLogger(__name__)

#: How long a successor must have worked beside the old process before that drains, seconds.
PROVEN_S = 1.0
#: How long a successor that is given up may take to end, seconds; then it is killed.
GIVEN_UP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycled:
    """A process was replaced, or was to be and its successor did not start."""

    process: str
    pool: str
    reason: Reason
    detail: str
    started: bool
    """The successor has started, and the old process drains."""
    reverted: bool = False
    """Its new configuration is given up."""


Event: TypeAlias = Death | Recycled
Emit: TypeAlias = Callable[[Event], None]


class Place(Protocol):
    """Where one process works, as far as its replacement needs it."""

    spec: ChildSpec
    """That of the next process."""
    current: Life | None
    successor: Life | None
    """Takes over where the current one ends."""
    stopping: asyncio.Event
    history: History

    def begin(self, spec: ChildSpec) -> Life:
        """Start a process."""

    def hand_over(self, life: Life) -> None:
        """The successor works from now on."""

    def revert(self) -> None:
        """Start the next process like the last one that has worked."""

    def tell(self, event: Event) -> None:
        """Never raises."""


class Replacement:
    """The replacements in one place, one at a time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._task: asyncio.Task[None] | None = None
        self._soon, self._failures, self._retry_at = 0, 0, 0.0

    @property
    def under_way(self) -> bool:
        """A successor is starting, or the old process still drains."""
        return self._task is not None and not self._task.done()

    async def ends(self) -> None:
        """The one that is under way is over."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def retry_now(self) -> None:
        """Wait no longer for the next try."""
        self._failures, self._retry_at = 0, 0.0

    def candidate(self) -> Candidate | None:
        """The process that works, for the choice whether to replace it; None where there is none to choose."""
        place, life = self._place, self._place.current
        if life is None or not life.started.is_set() or life.asked or self.under_way or place.stopping.is_set():
            return None
        return Candidate(
            name=place.spec.name,
            limits=place.spec.limits,
            age_s=life.age_s,
            rss=life.report.rss,
            settled=life.settled_rss,
            jobs=life.report.jobs,
            left_behind=vitals.left_behind(life.report),
            stale=not life.spec.starts_like(place.spec),
            soon=self._soon,
            retry_in_s=max(0.0, self._retry_at - time.monotonic()),
        )

    def begin(self, why: Recycle) -> None:
        """Replace the process that works."""
        if self.candidate() is not None and self._place.current is not None:
            self._task = asyncio.create_task(self._run(self._place.current, why))

    async def _run(self, old: Life, why: Recycle) -> None:
        place = self._place
        if place.stopping.is_set():
            return
        log.info("process %s is replaced (%s): %s", place.spec.name, why.reason, why.detail)
        self._note_soon(why)
        place.successor = life = place.begin(place.spec)
        await self._first((life.started, life.over), recycle.START_S)
        if life.started.is_set():
            await self._first((life.over, old.over), PROVEN_S)
        if place.stopping.is_set() or place.successor is not life:  # the old one has ended: its place was left to it
            return
        if life.over.is_set() or not life.started.is_set():
            await self._give_up(life, why)
            return
        place.hand_over(life)
        self._failures = 0
        place.history.recycles += 1
        place.history.last_recycle = why.detail
        self._tell(why, started=True)
        old.drain(old.spec.grace_s)
        await old.over.wait()

    async def _first(self, events: Iterable[asyncio.Event], within_s: float) -> None:
        """Until one of these happens, or the place is no longer needed, or the time is over."""
        waits = [asyncio.create_task(event.wait()) for event in (*events, self._place.stopping)]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _give_up(self, life: Life, why: Recycle) -> None:
        place = self._place
        place.successor = None
        self._failures += 1
        wait_s = recycle.retry_s(self._failures)
        self._retry_at = time.monotonic() + wait_s
        problem = life.notice or f"has not started within {recycle.START_S:.0f} s"
        follows = f"the next try follows in {wait_s:.0f} s"
        reverted = why.reason == "config" and place.spec.starts_like(life.spec)  # else there is a newer one by now
        if reverted:
            follows = "with its former configuration"
            place.revert()
        log.error("the successor of process %s %s; the old one goes on, %s", place.spec.name, problem, follows)
        place.history.last_recycle = f"failed, its successor {problem}"
        life.drain(GIVEN_UP_S)
        await life.over.wait()
        self._tell(why, started=False, reverted=reverted)

    def _tell(self, why: Recycle, *, started: bool, reverted: bool = False) -> None:
        spec = self._place.spec
        self._place.tell(
            Recycled(
                process=spec.name,
                pool=spec.pool,
                reason=why.reason,
                detail=why.detail,
                started=started,
                reverted=reverted,
            )
        )

    def _note_soon(self, why: Recycle) -> None:
        if why.reason != "memory":
            return
        self._soon = self._soon + 1 if why.soon else 0
        if self._soon == 2:
            log.warning(
                "pools.%s.memory is too small: twice in a row process %s had reached it %.0f s after its start; "
                "replacing it does not help, so that is done ever more rarely",
                self._place.spec.pool,
                self._place.spec.name,
                recycle.LIFE_S,
            )

"""Queues that somebody has paused for everyone: told once in the log, in health, and ended where that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from workers.broker.backend import now_ms
from workers.broker.global_pause import GlobalPauses, SeenPause
from workers.broker.result import message
from workers.queue_service import QueueState
from workers.queue_service.actor import Actor
from workers.queue_service.audit import Audit, Auditor, log_act
from workers.queue_service.report import ActReport
from workers.queue_service.verdict import shown

log = logging.getLogger(__name__)

#: By whom a queue is resumed, for the audit.
POLICY = Actor("on_global_pause", via="fleet")
#: Characters of an error that are shown.
MAX_DETAIL = 300

Answer: TypeAlias = Literal["report", "leave", "wait", "resume"]


def decide(seen: SeenPause, resume_after_s: float | None, now: int) -> Answer:
    """What follows a pause: it is told; it is left to whoever made it through Fleet; it will be ended; it is. Pure.

    Args:
        resume_after_s: None: it is reported alone.
        now: ms since the epoch.
    """
    if seen.by:
        return "leave"
    if resume_after_s is None:
        return "report"
    return "resume" if now - seen.since_ms >= resume_after_s * 1000 else "wait"


class GlobalPauseWatch:
    """Watches over them. Belongs to one event loop.

    Args:
        pauses: what Redis knows of them.
        policies: after how many seconds a queue is resumed; None: never.
        audit: told when one is resumed; must not block.
        clock: ms since the epoch.
    """

    def __init__(
        self,
        pauses: GlobalPauses,
        policies: Mapping[str, float | None],
        *,
        audit: Audit = log_act,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._pauses = pauses
        self.policies = dict(policies)
        """See above; may be replaced."""
        self._auditor = Auditor(audit, clock)
        self._clock = clock
        self._seen: dict[str, SeenPause] = {}
        self._asked: frozenset[str] = frozenset()
        self._problem: str | None = None

    async def look(self, states: Mapping[str, QueueState]) -> None:
        """Take over what was just seen of the queues, and do what is due. Never raises."""
        paused = {queue for queue, state in states.items() if state.stats.is_paused}
        # Those that are not, too, when they were, and the first time: of them something may be remembered in Redis.
        asked = paused | self._seen.keys() | (states.keys() - self._asked)
        try:
            found = await self._pauses.look(sorted(asked))
        except Exception as error:
            self._tell_problem(message(error, MAX_DETAIL))
            return
        self._tell_problem(None)
        self._asked = frozenset(states)
        for queue in self._seen.keys() - found.keys():
            log.info("queue %s is paused no longer", queue)
        former, self._seen = self._seen, found
        for queue, seen in tuple(found.items()):
            if former.get(queue) != seen:
                self._tell(queue, seen)
            if decide(seen, self.policies.get(queue), self._clock()) == "resume":
                await self._resume(queue, seen)

    def told(self) -> dict[str, str]:
        """What is to be known of each queue that is paused, in words. No I/O."""
        now = self._clock()
        return {queue: self._words(queue, seen, now) for queue, seen in self._seen.items()}

    def _words(self, queue: str, seen: SeenPause, now: int) -> str:
        for_s = max(0, now - seen.since_ms) / 1000
        after_s = self.policies.get(queue)
        match decide(seen, after_s, now):
            case "leave":
                return f"paused for {for_s:.0f} s by {shown(seen.by)}"
            case "report":
                return f"paused for {for_s:.0f} s, and stays so: see on_global_pause"
        return f"paused for {for_s:.0f} s, resumed after {after_s:g} s (on_global_pause)"

    def _tell(self, queue: str, seen: SeenPause) -> None:
        """Once for each pause."""
        after_s = self.policies.get(queue)
        if seen.by:
            log.info("queue %s is paused for everyone by %s, through Fleet", queue, shown(seen.by))
            return
        if after_s is None:
            remedy = "resume it with queue.resume() in Node, or set on_global_pause: {resume_after: 60s}"
        else:
            remedy = f"it is resumed after {after_s:g} s (on_global_pause)"
        log.warning(
            "queue %s is paused for everyone: no worker starts its jobs, Node's neither; a shutdown of the Node stack "
            "leaves its queues so; %s",
            queue,
            remedy,
        )

    async def _resume(self, queue: str, seen: SeenPause) -> None:
        async def work() -> ActReport:
            done = await self._pauses.resume(queue, seen)
            return ActReport(action="resume", queue=queue, matched=1, done=int(done))

        try:
            report = await self._auditor.told("resume", queue, "", POLICY, work)
        except Exception as error:
            log.warning("queue %s could not be resumed: %s; trying again", queue, message(error, MAX_DETAIL))
            return
        self._seen.pop(queue, None)
        if report.done:
            for_s = (self._clock() - seen.since_ms) / 1000
            log.warning("queue %s was paused for everyone for %.0f s, and is resumed (on_global_pause)", queue, for_s)

    def _tell_problem(self, problem: str | None) -> None:
        """Say it once when looking begins to fail."""
        if problem is not None and self._problem is None:
            log.warning("it can't be told since when queues are paused, so none is resumed: %s", problem)
        self._problem = problem

"""What may end a job before it runs: BullMQ's own verdict, too many starts, a rate limit that was set by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

from workers.broker.activation import Activation
from workers.broker.backend import FleetBackend
from workers.broker.endings import Ending, Failed, HandedBack, RateLimited, Retry
from workers.broker.settings import WorkerSettings

#: BullMQ's own words.
TOO_OFTEN = "job started more than allowable limit"
# `deferredFailure` in moveToFinished-14.lua; any other failure that was put off is of a job whose worker died.
_CHILD_FAILED = re.compile("child .+ failed", re.DOTALL)


class Gate:
    """Stands between a job's fetch and its run.

    Args:
        hold_back: told for how many milliseconds the queue is limited.
        on_error: told every failure: the error, where, the job's id.
    """

    def __init__(
        self,
        backend: FleetBackend,
        settings: WorkerSettings,
        hold_back: Callable[[int], None],
        on_error: Callable[[BaseException, str, str], None],
    ) -> None:
        self._backend = backend
        self._max_starts = settings.max_starts
        self._has_rate = settings.limiter is not None
        self._hold_back = hold_back
        self._on_error = on_error

    async def ending(self, job: Activation) -> Ending | None:
        """The ending of a job that must not run; None: let it in."""
        if job.deferred_failure is not None:  # BullMQ decided before us: stalled too often, or a child failed
            failure = "permanent" if _CHILD_FAILED.fullmatch(job.deferred_failure) else "crashed"
            return Failed(reason=job.deferred_failure, error="Deferred", failure=failure)
        if self._max_starts is not None and job.fence > self._max_starts:
            return Failed(reason=TOO_OFTEN, error="StartedTooOften")
        if left_ms := await self._limit_left_ms(job):
            self._hold_back(left_ms)
            return HandedBack(reason=f"the queue is rate limited for {left_ms / 1000:g} s")
        return None

    def after(self, ending: Ending, job: Activation) -> Ending:
        """The ending of a run: after the last start that is allowed, no other follows a failure."""
        if isinstance(ending, RateLimited):  # before it is written: the other slots fetch with each ending of theirs
            self._hold_back(ending.delay_ms)
        if self._max_starts is None or job.fence < self._max_starts or not isinstance(ending, Retry):
            return ending
        return Failed(reason=ending.reason, error=ending.error, stack=ending.stack, failure=ending.failure)

    async def _limit_left_ms(self, job: Activation) -> int:
        """Where no rate is configured, moveToActive does not look at a limit that was set by hand, so we do. Only for a
        job that was started before: the one that met the limit is at the front of `wait`, so each of the other workers
        gets it first, and knows.
        """
        if self._has_rate or job.fence <= 1:
            return 0
        try:
            return await self._backend.limit_left_ms()
        except Exception as error:
            self._on_error(error, "limit", job.id)
            return 0

"""The runs of job schedulers in a worker: the start of one plans the next, and one whose time is long over may be left
out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from bullmq import Job
from bullmq.job_scheduler import JobScheduler

from workers.broker import cron
from workers.broker.activation import Activation
from workers.broker.endings import Completed, Ending
from workers.broker.schedule_view import missed_of

log = logging.getLogger(__name__)


class ScheduledRuns:
    """Those of one worker.

    Args:
        worker: BullMQ's, with its backend.
        on_error: told every failure: the error, where, the job's id.
    """

    def __init__(self, worker: Any, on_error: Callable[[BaseException, str, str], None]) -> None:
        self._worker = worker
        self._on_error = on_error
        self._scheduler: JobScheduler | None = None

    async def begin(self, job: Activation) -> Ending | None:
        """Plan the run after this one, as Node's nextJobFromJobData does it. Returns the ending of a run that is left
        out; None: it is to run.
        """
        if job.scheduler is None or job.attempts_made or job.stalls:
            return None
        missed = await self._missed(job)
        try:
            await self._plan(job)
        except Exception as error:
            self._on_error(error, "scheduler", job.id)
        return missed

    async def _plan(self, job: Activation) -> None:
        if self._scheduler is None:
            self._scheduler = JobScheduler(self._worker, cron.following)
        # With the scheduler's own data, whatever these are: the job's are not parsed again.
        row = {"name": job.name, "opts": json.dumps(job.opts), "rjk": job.scheduler}
        run = Job.fromJSON(self._worker, row, job.id)
        repeat = (run.opts or {}).get("repeat")
        await self._scheduler.upsertJobScheduler(
            job.scheduler, repeat, run.name, run.data, run.opts, override=False, producer_id=job.id
        )

    async def _missed(self, job: Activation) -> Ending | None:
        """A run that comes too late, where its schedule has such runs left out (`missed: skip`)."""
        missed, grace_ms = missed_of(job.opts)
        if missed == "run_once" or job.wait_s is None or job.wait_s * 1000 <= grace_ms:
            return None
        if not await self._is_next(job):  # it had begun in time, and was interrupted
            return None
        late_s = round(job.wait_s)
        log.info("a run of schedule %s of queue %s is left out: it is %d s late", job.scheduler, job.queue, late_s)
        return Completed(result={"skipped": "missed", "lateMs": round(job.wait_s * 1000)})

    async def _is_next(self, job: Activation) -> bool:
        """Whether its schedule has not gone on to another run since: the first start of a run lets it."""
        backend = self._worker.backend
        try:
            due = await backend.conn.zscore(backend.keys["repeat"], job.scheduler)
        except Exception as error:
            self._on_error(error, "scheduler", job.id)
            return False
        return due is not None and job.id == f"repeat:{job.scheduler}:{int(due)}"

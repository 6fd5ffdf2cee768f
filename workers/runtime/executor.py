"""Executes one job: decode → run → decide. Knows the plans, not Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tasks import TASKS
from tasks.base import Task
from tasks.codec import DecodeError, UnknownTaskType, decode
from tasks.tier import tier_of
from workers.broker.activation import Activation
from workers.broker.endings import Delayed, Ending, Failed
from workers.broker.hold import Hold
from workers.contract import BackoffStrategy, Verdict
from workers.runtime import retry
from workers.runtime.alarm import Alarm
from workers.runtime.context import NO_PORTS, HostContext, Ports
from workers.runtime.deadline import drive
from workers.runtime.decision import Decision
from workers.runtime.hint import NO_HINT, hint_of
from workers.runtime.isolation.call import Call, Isolation
from workers.runtime.ladder import Climb, Ladder

#: How long after the end of its ladder a run's lock is still renewed, seconds: for a loop that is late.
LOCK_SLACK_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one task type is run on one queue; computed at start."""

    isolation: Isolation
    classify: Callable[[Exception], Verdict]
    ladder: Ladder
    """What is done to a run that takes long."""
    retry: retry.RetryPolicy
    task: type[Task] | None = None
    """The model of its data. None: the one that `tasks` has for this type."""
    backoff: BackoffStrategy | None = None
    """For jobs whose own backoff is of a type that BullMQ does not know."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a queue accepts."""

    max_data_bytes: int
    """The largest job data, in bytes of its JSON as stored; a larger job fails at once."""
    unknown_delay_s: float
    """Seconds for which a job of an unknown type is put off each time."""
    unknown_give_up_s: float
    """Age of a job in seconds, counted from when it was due, at which an unknown type fails instead of being put
    off."""


class Executor:
    """The executions of one queue.

    Args:
        plans: by task type.
        ports: what its runs may reach beyond their jobs.
        draw: a random number in [0, 1) for jitter.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        limits: Limits,
        *,
        ports: Ports = NO_PORTS,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plans = {
            name: (plan, Decision(plan.classify, plan.backoff, plan.retry, draw)) for name, plan in plans.items()
        }
        self._types = {**TASKS, **{name: plan.task for name, plan in plans.items() if plan.task is not None}}
        self._limits = limits
        self._ports = ports
        self._alarm = Alarm()
        self._clock = clock

    async def execute(self, job: Activation, hold: Hold) -> Ending:
        """Run the job once. Returns how it ends; raises only when it is itself cancelled."""
        read = self._read(job)
        if not isinstance(read, Task):
            return read
        plan, decision = self._plans[read.type]
        climb = plan.ladder.only or _climb(plan.ladder, read, job)
        restored = await hold.restored()
        started = time.monotonic()
        hold.bound(started + climb.end_s + LOCK_SLACK_S)
        context = HostContext(hold, started + climb.cut_s, restored=restored, ports=self._ports)
        call = Call(queue=job.queue, task=read, data=job.data, context=context)
        end = await drive(
            partial(plan.isolation.run, call),
            hold,
            climb,
            requests=context.requests,
            kill=call.kill,
            on_rung=hold.on_rung,
            alarm=self._alarm,
        )
        hold.memory = call.memory
        return await decision.ending(end, job, hold)

    # ------------------------------------------------------------------ decode

    def _read(self, job: Activation) -> Task | Failed | Delayed:
        if job.defects:
            return Failed(reason="; ".join(job.defects), error="DecodeError")
        if job.data_bytes > self._limits.max_data_bytes:
            found, limit = job.data_bytes, self._limits.max_data_bytes
            reason = f"data: {found:,} bytes, more than the {limit:,} this queue accepts (max_data)"
            return Failed(reason=reason, error="DecodeError")
        try:
            task = decode(job.data, self._types)
        except UnknownTaskType as error:
            return self._unknown(job, str(error))
        except DecodeError as error:
            return Failed(reason=str(error), error="DecodeError")
        if task.type not in self._plans:
            return self._unknown(job, f"data.type: '{task.type}' is not served on queue {job.queue}")
        return task

    def _unknown(self, job: Activation, reason: str) -> Failed | Delayed:
        """A type that this worker can't read may be a newer worker's: put off for a while, then failed."""
        delay_s = self._limits.unknown_delay_s
        age_s = self._clock() - job.due / 1000
        if age_s < 0:  # a clock that is wrong, or a lie: else the job would be put off until then
            age_s = (job.fence - 1) * delay_s
        if age_s >= self._limits.unknown_give_up_s:
            return Failed(reason=reason, error="UnknownTaskType")
        return Delayed(delay_ms=retry.wait_ms(delay_s), reason=reason)


def _climb(ladder: Ladder, task: Task, job: Activation) -> Climb:
    """The rungs of this run: by whose task it is and what its job says, where the ladder asks for either."""
    tier = tier_of(task) if ladder.by_tier else "free"
    hint = NO_HINT if ladder.job_may_set_s is None else hint_of(job.data, job.opts)
    return ladder.for_run(tier, hint)

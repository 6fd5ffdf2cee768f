"""Executes one job: decode → run → decide. Knows the plans, not Redis."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tasks import TASKS
from tasks.base import Task
from tasks.codec import DecodeError, TooNewError, decode
from tasks.limits import Limits as DataLimits
from tasks.status import status_of
from tasks.tier import EnterpriseRule, tier_of
from workers.broker.activation import Activation, too_large
from workers.broker.endings import CANCELLED, Delayed, Ending, Failed
from workers.broker.hold import Hold
from workers.contract import BackoffStrategy, Verdict
from workers.runtime import retry
from workers.runtime.alarm import Alarm
from workers.runtime.context import NO_PORTS, HostContext, Ports
from workers.runtime.deadline import drive
from workers.runtime.decision import Decision
from workers.runtime.hint import NO_HINT, hint_of
from workers.runtime.isolation.call import Call, Isolator
from workers.runtime.isolation.place import NoPlaceError, Place, Places
from workers.runtime.ladder import Climb, Ladder
from workers.runtime.run_end import Interrupted

#: How long after the end of its ladder a run's lock is still renewed, seconds: for a loop that is late.
LOCK_SLACK_S = 5.0

_RULE = EnterpriseRule()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one task type is run on one queue; computed at start."""

    isolation: Isolator
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
    """Seconds for which a job of an unknown type, or of a newer version of its shape, is put off each time."""
    unknown_give_up_s: float
    """Age of such a job in seconds, counted from when it was due, at which it fails instead of being put off."""
    data: DataLimits = field(default_factory=DataLimits)
    """How deep the data may be nested, and how many characters they may have; what is beyond fails at once."""


class Executor:
    """The executions of one queue.

    Args:
        plans: by task type.
        ports: what its runs may reach beyond their jobs.
        enterprise: whose tasks climb the ladder of enterprise users.
        draw: a random number in [0, 1) for jitter.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        limits: Limits,
        *,
        ports: Ports = NO_PORTS,
        enterprise: EnterpriseRule = _RULE,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plans = {
            name: _Served(
                plan,
                Decision(plan.classify, plan.backoff, plan.retry, draw),
                plan.isolation if isinstance(plan.isolation, Places) else None,
            )
            for name, plan in plans.items()
        }
        self._types = {**TASKS, **{name: plan.task for name, plan in plans.items() if plan.task is not None}}
        self._limits = limits
        self._ports = ports
        self._enterprise = enterprise
        self._alarm = Alarm()
        self._clock = clock

    async def execute(self, job: Activation, hold: Hold) -> Ending:
        """Run the job once. Returns how it ends; raises only when it is itself cancelled."""
        read = self._read(job)
        if not isinstance(read, Task):
            return read
        served = self._plans[read.type]
        climb = served.plan.ladder.only or _climb(served.plan.ladder, read, job, self._enterprise)
        restored = await hold.restored()
        if served.places is None:
            return await self._run(served, served.plan.isolation, read, hold, climb, restored)
        place = served.places.take()
        if place is None:
            hold.bound(time.monotonic() + served.places.patience_s + climb.end_s + LOCK_SLACK_S)
            try:
                place = await _placed(served.places, hold)
            except NoPlaceError as error:
                return Delayed(delay_ms=retry.wait_ms(error.wait_s), reason=str(error))
            if place is None:
                assert hold.interrupt is not None  # noqa: S101 - what else
                return await served.decision.ending(Interrupted(hold.interrupt, False), job, hold)
        try:
            return await self._run(served, place, read, hold, climb, restored)
        finally:
            place.free()

    async def _run(
        self, served: _Served, where: Isolator | Place, task: Task, hold: Hold, climb: Climb, restored: Any
    ) -> Ending:
        """From here on the run's time counts."""
        job, started = hold.job, time.monotonic()
        hold.bound(started + climb.end_s + LOCK_SLACK_S)
        context = HostContext(hold, started + climb.cut_s, restored=restored, ports=self._ports)
        call = Call(queue=job.queue, task=task, data=job.data, context=context)
        try:
            end = await drive(
                partial(where.run, call),
                hold,
                climb,
                requests=context.requests,
                kill=call.kill,
                on_rung=hold.on_rung,
                alarm=self._alarm,
            )
        finally:
            context.close()  # whatever goes on of the run reaches the job no more
        hold.memory = call.memory
        return await served.decision.ending(end, job, hold)

    # ------------------------------------------------------------------ decode

    def _read(self, job: Activation) -> Task | Failed | Delayed:
        if job.defects:
            return Failed(reason="; ".join(job.defects), error="DecodeError")
        if job.data_bytes > self._limits.max_data_bytes:  # parsed all the same: by a worker without bounds of its own
            return Failed(reason=too_large(job.data_bytes, self._limits.max_data_bytes), error="DecodeError")
        if (cancelled := _cancelled(job.data)) is not None:
            return cancelled
        try:
            task = decode(job.data, self._types, limits=self._limits.data)
        except TooNewError as error:
            return self._unknown(job, str(error), type(error).__name__)
        except DecodeError as error:
            return Failed(reason=str(error), error="DecodeError")
        if task.type not in self._plans:
            return self._unknown(job, f"data.type: '{task.type}' is not served on queue {job.queue}")
        return task

    def _unknown(self, job: Activation, reason: str, error: str = "UnknownTaskType") -> Failed | Delayed:
        """What this worker can't read, a newer one may: put off for a while, then failed."""
        delay_s = self._limits.unknown_delay_s
        age_s = self._clock() - job.due / 1000
        if age_s < 0:  # a clock that is wrong, or a lie: else the job would be put off until then
            age_s = (job.fence - 1) * delay_s
        if age_s >= self._limits.unknown_give_up_s:
            return Failed(reason=reason, error=error)
        return Delayed(delay_ms=retry.wait_ms(delay_s), reason=reason)


@dataclass(frozen=True, slots=True)
class _Served:
    """A plan, and what follows from it."""

    plan: Plan
    decision: Decision
    places: Places | None
    """Where its runs wait for a place before their time counts; None: they begin at once."""


def _cancelled(data: Any) -> Failed | None:
    """The ending of a job whose status asks to stop, as Node's producers tell it before the job has begun."""
    said = data.get("status") if isinstance(data, dict) else None
    status = status_of(said)
    if status is None or not status.asks_to_stop:
        return None
    return Failed(reason=f"cancelled before it ran: its data.status was {status}", error=CANCELLED)


async def _placed(places: Places, hold: Hold) -> Place | None:
    """Wait for a place; None: the slot is wanted back.

    Raises:
        NoPlaceError: none was free in time.
    """
    if _wanted_back(hold):
        return None
    waiting = asyncio.ensure_future(places.place())

    def interrupted() -> None:
        waiting.cancel()

    hold.on_interrupt = interrupted
    try:
        await asyncio.wait({waiting})
    except asyncio.CancelledError:
        waiting.cancel()
        waiting.add_done_callback(_given_up)
        raise
    finally:
        hold.on_interrupt = None
    if not waiting.cancelled():
        return waiting.result()
    if not _wanted_back(hold):  # by code of a job's that cancels every task it finds
        raise NoPlaceError("the wait for a place to run was cancelled from outside", 0.0)
    return None


def _wanted_back(hold: Hold) -> bool:
    return hold.interrupt is not None


def _given_up(waiting: asyncio.Future[Place]) -> None:
    if not waiting.cancelled() and waiting.exception() is None:
        waiting.result().free()


def _climb(ladder: Ladder, task: Task, job: Activation, enterprise: EnterpriseRule) -> Climb:
    """The rungs of this run: by whose task it is and what its job says, where the ladder asks for either."""
    tier = tier_of(task, enterprise) if ladder.by_tier else "free"
    hint = NO_HINT if ladder.job_may_set_s is None else hint_of(job.data, job.opts)
    return ladder.for_run(tier, hint)

"""Schedules: looks at them, changes them, and makes those of fleet.yaml the job schedulers that BullMQ runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from workers.broker.backend import now_ms
from workers.broker.schedulers import Found, NewSchedule, Schedulers, Word
from workers.queue_service import outage
from workers.queue_service.act_desk import check_operator
from workers.queue_service.actor import Actor
from workers.queue_service.audit import Audit, Auditor, log_act
from workers.queue_service.errors import InvalidRequestError, RefusedError, UnknownJobError
from workers.queue_service.new_schedules import NewSchedules
from workers.queue_service.page import MAX_ITEMS
from workers.queue_service.queue_names import QueueNames, check_name
from workers.queue_service.reconcile import Action, Key, Mark, Step, origin_of, plan
from workers.queue_service.report import ActReport
from workers.queue_service.schedule import Schedule, ScheduleSpec, state_of
from workers.queue_service.verdict import shown

#: By whom the schedules of fleet.yaml are written, for the audit.
FLEET = Actor("fleet.yaml", via="fleet")
#: How often one is looked at anew where others write it at the same time.
TRIES = 5
#: Characters of the longest id that is looked for.
MAX_ID = 1024

_DONE: Mapping[Action, str] = {
    "add": "added",
    "update": "updated",
    "remove": "removed",
    "forget": "left to others",
    "leave": "kept",
}
_WHY: Mapping[Word, str] = {
    "taken": "a run of it was started before its time and is kept under the id that its next one would have: "
    "it can be written once that time is over",
    "over": "it has no run between now and its end",
    "changed": "others write it at the same time",
}


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """What came of the schedules of fleet.yaml."""

    steps: tuple[Step, ...] = ()
    """All that was looked at, in order; those of `problems` were not done."""
    problems: Mapping[Key, str] = field(default_factory=dict)
    """Why a step could not be done."""

    def __str__(self) -> str:
        done = Counter(step.action for step in self.steps if (step.queue, step.id) not in self.problems)
        said = [f"{done[action]} {name}" for action, name in _DONE.items() if done[action]]
        return ", ".join([*said, *([f"{len(self.problems)} not written"] if self.problems else [])]) or "none"


class Scheduling:
    """The schedules of one prefix. Belongs to one event loop; connects to nothing until it is asked.

    Every method raises QueueUnavailableError where Redis does not answer, UnknownQueueError where a queue that is named
    is neither configured nor in Redis, and InvalidRequestError where what is asked is wrong in itself.

    Args:
        schedulers: BullMQ's.
        names: which queues there are.
        new: makes what is written.
        declared: those of fleet.yaml. None: it has no such section, and none is touched.
        queues: those whose schedules are fleet.yaml's to remove.
        audit: told every change, refused ones too; must not block.
        clock: ms since the epoch.
    """

    def __init__(
        self,
        schedulers: Schedulers,
        names: QueueNames,
        new: NewSchedules,
        *,
        declared: Mapping[Key, NewSchedule] | None = None,
        queues: Collection[str] = (),
        audit: Audit = log_act,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._schedulers = schedulers
        self._names = names
        self._new = new
        self._auditor = Auditor(audit, clock)
        self._clock = clock
        self.declared = declared
        """See above; may be replaced, with the next."""
        self.queues = tuple(queues)
        """See above."""

    # ------------------------------------------------------------------ look

    async def schedules(self, queue: str | None = None) -> list[Schedule]:
        """All schedules of one queue, or of all that are known; of one queue the first 1000, the next one due first.
        Those that others have made are among them.
        """
        if queue is not None:
            await self._names.check(queue)
        found: list[Schedule] = []
        for name in (queue,) if queue is not None else self._names.seen:
            with outage.told(name, changes=False):
                page, _ = await self._schedulers.page(name, 0, MAX_ITEMS)
            found += [shown_one for each in page if (shown_one := self._shown(each)) is not None]
        return found

    async def schedule(self, queue: str, schedule_id: str) -> Schedule:
        """One of them.

        Raises:
            UnknownJobError: the queue has none of this id.
        """
        _check_id(schedule_id)
        check_name(queue)
        with outage.told(queue, changes=False):
            found = (await self._schedulers.read(queue, [schedule_id]))[schedule_id]
        one = self._shown(found)
        if one is None:
            await self._names.check(queue)
            raise _unknown(queue, schedule_id)
        return one

    def _shown(self, found: Found) -> Schedule | None:
        if found.stored is None:
            return None
        return Schedule(stored=found.stored, origin=origin_of(found), state=state_of(found.stored, self._clock()))

    # ------------------------------------------------------------------- act

    async def upsert(self, queue: str, schedule_id: str, spec: ScheduleSpec, *, actor: Actor) -> ActReport:
        """Make a schedule, or another one of it, whoever made it. Its runs count anew, and an `every` goes on in step.
        One that is declared in fleet.yaml stays as it is left here until its entry changes.

        Raises:
            RefusedError: it can't be written now, or the actor may not.
        """

        async def work() -> ActReport:
            check_operator(actor, queue)
            await self._names.check(queue)
            new = self._new.make(queue, schedule_id, spec)
            with outage.told(queue):
                word = await self._schedulers.put(new)
            if word != "ok":
                raise RefusedError(f"schedule {shown(schedule_id)} of queue {queue}: {_WHY[word]}", queue=queue)
            return ActReport(action="schedule", queue=queue, matched=1, done=1)

        said = {"cron": spec.cron, "every_ms": spec.every_ms, "tz": spec.tz}
        return await self._auditor.told("schedule", queue, schedule_id, actor, work, **said)

    async def remove(self, queue: str, schedule_id: str, *, actor: Actor) -> ActReport:
        """Remove a schedule, whoever made it, with its next run where that is not due yet.

        Raises:
            UnknownJobError: the queue has none of this id.
            RefusedError: the actor may not.
        """

        async def work() -> ActReport:
            check_operator(actor, queue)
            _check_id(schedule_id)
            await self._names.check(queue)
            with outage.told(queue):
                word = await self._schedulers.remove(queue, schedule_id)
            if word == "gone":
                raise _unknown(queue, schedule_id)
            return ActReport(action="unschedule", queue=queue, matched=1, done=1)

        return await self._auditor.told("unschedule", queue, schedule_id, actor, work)

    # ------------------------------------------------------------- fleet.yaml

    async def reconcile(self, *, restore: bool = False) -> ReconcileReport:
        """Make the schedules of fleet.yaml those that BullMQ runs; see reconcile.py for what is touched and what is
        not. Several fleets may do so at the same time: each step is done by one of them.

        Args:
            restore: take back what was done to them by hand.
        """
        if self.declared is None:
            return ReconcileReport()
        steps: list[Step] = []
        problems: dict[Key, str] = {}
        for queue in dict.fromkeys((*self.queues, *(queue for queue, _ in self.declared))):
            declared = {key: new for key, new in self.declared.items() if key[0] == queue}
            with outage.told(queue, changes=False):
                marked = await self._schedulers.marked(queue)
            names = list(dict.fromkeys([*(schedule_id for _, schedule_id in declared), *marked]))
            for step in await self._planned(queue, declared, names, restore):
                done, problem = await self._take(step, declared, restore)
                steps.append(done)
                if problem:
                    problems[(queue, step.id)] = problem
        return ReconcileReport(tuple(steps), problems)

    async def _planned(
        self, queue: str, declared: Mapping[Key, NewSchedule], names: Sequence[str], restore: bool
    ) -> list[Step]:
        with outage.told(queue, changes=False):
            found = await self._schedulers.read(queue, names)
        here = {(queue, schedule_id): each for schedule_id, each in found.items()}
        return plan({key: new for key, new in declared.items() if key in here}, here, self._clock(), restore=restore)

    async def _take(self, step: Step, declared: Mapping[Key, NewSchedule], restore: bool) -> tuple[Step, str]:
        """Do one step; where others are at it, too, look again. Returns what was done, and why it was not."""
        word: Word = "changed"
        for _ in range(TRIES):
            try:
                word = await self._written(step)
            except RefusedError as error:
                return step, str(error)
            if word != "changed":
                break
            again = await self._planned(step.queue, declared, [step.id], restore)
            if not again:
                return step, ""  # others have removed it, and it is declared no more
            (step,) = again
        return step, "" if word in ("ok", "gone") else _WHY[word]

    async def _written(self, step: Step) -> Word:
        """Carry it out. A change is told to the audit."""
        found, word = step.found, list[Word]()

        async def work() -> ActReport:
            with outage.told(step.queue):
                word.append(await self._sent(step))
            return ActReport(action=action, queue=step.queue, matched=1, done=int(word == ["ok"]))

        action = {"add": "schedule", "update": "schedule", "remove": "unschedule"}.get(step.action, "")
        if action:
            await self._auditor.told(action, step.queue, step.id, FLEET, work, reason=step.reason)
            return word[0]
        if step.action == "leave":
            return "ok"
        with outage.told(step.queue):
            return await self._schedulers.mark(step.queue, step.id, found, "-")

    async def _sent(self, step: Step) -> Word:
        found = step.found
        if step.action == "remove":
            return await self._schedulers.drop(step.queue, step.id, version=found.version, mark=found.mark)
        assert step.new is not None  # noqa: S101 - of add and update
        marked = str(Mark(step.new.fingerprint))
        try:
            return await self._schedulers.put(
                step.new, version=found.version, mark=found.mark, marked=marked, done=step.done
            )
        except ValueError as error:  # the package's own
            raise RefusedError(f"BullMQ takes no such schedule: {error}", queue=step.queue) from error


def _check_id(schedule_id: str) -> None:
    if not isinstance(schedule_id, str) or not 0 < len(schedule_id) <= MAX_ID:
        raise InvalidRequestError("id", f"expected 1 to {MAX_ID:,} characters")


def _unknown(queue: str, schedule_id: str) -> UnknownJobError:
    return UnknownJobError(f"there is no schedule {shown(schedule_id)} in queue {queue}", queue=queue)

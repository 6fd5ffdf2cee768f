"""From what is asked for to the schedule that is written: checked by what BullMQ, both cron libraries and its queue
accept. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from config.schedule_section import TAKEN
from tasks import TASKS
from tasks.base import Task
from workers.broker import cron
from workers.broker.backend import now_ms
from workers.broker.schedule_view import own_option
from workers.broker.schedulers import NewSchedule
from workers.queue_service.act_desk import check_whole
from workers.queue_service.add_options import AddOptions
from workers.queue_service.errors import InvalidRequestError
from workers.queue_service.new_jobs import NewJobs
from workers.queue_service.option_rules import MAX_DELAY_MS, MAX_TIMESTAMP_MS, is_unicode
from workers.queue_service.routes import Routes
from workers.queue_service.schedule import ScheduleSpec

#: Characters of the longest id and name; the least time between two runs, ms.
MAX_ID, MAX_NAME, MIN_EVERY_MS = 256, 256, 100
#: Characters of the longest cron expression.
MAX_CRON = 200
_ID = re.compile(r"[^\x00-\x1f\x7f]+")


class NewSchedules:
    """Makes them.

    Args:
        routes: which queues carry which tasks, and with which options.
        types: the models by what `data.type` carries; those of one's own modules beside ours.
        clock: ms since the epoch.
    """

    def __init__(
        self, routes: Routes, types: Mapping[str, type[Task]] = TASKS, clock: Callable[[], int] = now_ms
    ) -> None:
        self._jobs = NewJobs(routes, types)
        self._clock = clock

    def make(self, queue: str, schedule_id: str, spec: ScheduleSpec) -> NewSchedule:
        """The schedule that is asked for. Its jobs have the options of the queue's tasks, as if Fleet added each.

        Raises:
            InvalidRequestError: there can be no such schedule; names the field.
            UnknownQueueError: the queue is not configured.
        """
        _check_id(schedule_id)
        self._check_times(queue, spec)
        name = queue if spec.name is None else spec.name
        if not 0 < len(name) <= MAX_NAME or not is_unicode(name):
            raise InvalidRequestError("name", f"expected 1 to {MAX_NAME} characters", queue=queue)
        data = {"type": queue, **spec.data}
        return NewSchedule(
            queue=queue,
            id=schedule_id,
            name=name,
            repeat=spec.repeat,
            data=data,
            options=self._options(queue, schedule_id, spec, data),
        )

    def _check_times(self, queue: str, spec: ScheduleSpec) -> None:
        if (spec.cron is None) == (spec.every_ms is None):
            raise InvalidRequestError("cron", "expected either cron or every", queue=queue)
        if spec.every_ms is not None and not MIN_EVERY_MS <= spec.every_ms <= MAX_DELAY_MS:
            raise InvalidRequestError("every", f"expected {MIN_EVERY_MS} ms to ten years", queue=queue)
        if spec.limit is not None:
            check_whole("limit", spec.limit, 1_000_000_000)
            if spec.limit == 0:
                raise InvalidRequestError("limit", "expected at least 1", queue=queue)
        check_whole("grace", spec.grace_ms, MAX_DELAY_MS)
        for field, moment in (("start", spec.start_ms), ("end", spec.end_ms)):
            if moment is not None:
                check_whole(field, moment, MAX_TIMESTAMP_MS)
        if spec.start_ms is not None and spec.end_ms is not None and spec.start_ms >= spec.end_ms:
            raise InvalidRequestError("end", "expected a time after start", queue=queue)
        if spec.cron is not None:
            self._check_cron(queue, spec, spec.cron)

    def _check_cron(self, queue: str, spec: ScheduleSpec, pattern: str) -> None:
        zone = spec.tz or "UTC"
        try:
            ZoneInfo(zone)
        except Exception:
            raise InvalidRequestError("tz", "expected a time zone like Europe/Berlin or UTC", queue=queue) from None
        if len(pattern) > MAX_CRON:
            raise InvalidRequestError("cron", f"expected at most {MAX_CRON} characters", queue=queue)
        after = self._clock() if spec.start_ms is None else spec.start_ms
        if (wrong := cron.problem(pattern, zone, after)) is not None:
            raise InvalidRequestError("cron", f"expected {wrong}", queue=queue)
        # Only where it never had one: what has come to its end is no mistake.
        if spec.start_ms is not None and cron.following(spec.start_ms, spec.repeat) is None:
            raise InvalidRequestError("end", "expected a time after the first run that follows start", queue=queue)

    def _options(self, queue: str, schedule_id: str, spec: ScheduleSpec, data: dict[str, Any]) -> dict[str, Any]:
        for option in sorted(spec.options.keys() & TAKEN.keys()):
            raise InvalidRequestError(f"options.{option}", f"expected none: use {TAKEN[option]}", queue=queue)
        has_own_id = "id" in data or "idempotencyKey" in data
        # What it is at run time: each run's own, see activation.parse.
        task = data if has_own_id else {**data, "id": f"repeat:{schedule_id}:{self._clock()}"}
        asked = AddOptions(queue=queue, priority=spec.priority, attempts=spec.attempts, raw=spec.options)
        try:
            options = dict(self._jobs.job(self._jobs.check(task, asked)).opts)
        except InvalidRequestError as error:
            raise _placed(error, has_own_id) from None
        options.pop("jobId", None)
        return options | own_option(spec.missed, spec.grace_ms)


def _check_id(schedule_id: str) -> None:
    right = isinstance(schedule_id, str) and len(schedule_id) <= MAX_ID and _ID.fullmatch(schedule_id)
    if not right or not is_unicode(schedule_id):
        raise InvalidRequestError("id", f"expected 1 to {MAX_ID} characters")
    if schedule_id.count(":") > 3:
        raise InvalidRequestError("id", "expected at most 3 colons: BullMQ takes others for repeatable jobs of old")


def _placed(error: InvalidRequestError, has_own_id: bool) -> InvalidRequestError:
    """At the schedule's own fields."""
    field = error.field.replace("raw", "options", 1) if error.field.startswith("raw") else error.field
    text = str(error).removeprefix(f"{error.field}: ")
    if field == "data.id" and not has_own_id:
        text += "; without an `id` each run has that of its job: give one, and all runs have the same"
    return InvalidRequestError(field, text, queue=error.queue)

"""From a task to the job that is added for it: checked by what its queue accepts, before anything is sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from tasks import TASKS
from tasks.base import Task
from tasks.codec import DecodeError, WireError, decode, encode
from tasks.ids import job_id_for
from tasks.priority import calculate_priority
from workers.broker.new_job import NewJob
from workers.broker.producer import json_of
from workers.broker.result import clean, message
from workers.queue_service.add_options import DEFAULT, AddOptions, said
from workers.queue_service.errors import InvalidRequestError, QueueServiceError
from workers.queue_service.routes import QUOTED, Route, Routes

#: Characters of an error that are shown.
MAX_DETAIL = 1000
#: Objects and lists on one level of a task; and levels that a task is given beyond what its queue accepts, so that the
#: refusal can tell the place.
MAX_HOLDERS, SLACK = 1_000_000, 8

_SINGLE = frozenset((str, int, float, bool, type(None)))

AnyTask: TypeAlias = Task | Mapping[str, Any]
"""A task, or a job's data as Node writes them."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A task that its queue accepts."""

    task: Task
    route: Route
    data: str
    """Its JSON."""
    job_id: str
    """Empty: BullMQ is to count."""
    options: AddOptions
    said: dict[str, Any]
    """What the caller says of the job, as it is written."""

    @property
    def task_id(self) -> str:
        """Empty: it has none, and its job's id stands for it."""
        return self.task.id or self.task.idempotency_key or ""


class NewJobs:
    """Makes them.

    Args:
        routes: where tasks go.
        types: the models by what `data.type` carries; those of one's own modules beside ours.
    """

    def __init__(self, routes: Routes, types: Mapping[str, type[Task]] = TASKS) -> None:
        self._routes = routes
        self._types = types

    def check(
        self, task: AnyTask, options: AddOptions = DEFAULT, *, child: bool = False, route: Route | None = None
    ) -> Checked:
        """Check a task and how it is to be added.

        Args:
            child: it is added as the child of a job.
            route: its own, where it is known.

        Raises:
            InvalidRequestError: it can't be added so; names the field.
            UnknownQueueError: see Routes.
        """
        told = said(options)
        route = route or self.route(task, options)
        try:
            data = _encoded(task, route) if isinstance(task, Task) else dict(task)
            text, size = _text(data, data["type"])
            _check_size(size, route, told.get("sizeLimit"))
            if not isinstance(task, Task):
                task = _decoded(data, self._types, route)
            elif (beyond := route.limits.exceeded(data)) is not None:
                raise InvalidRequestError(beyond.path, f"expected {beyond.expected}, found {beyond.found}")
            return Checked(task, route, text, _job_id(task, told, child), options, told)
        except QueueServiceError as error:
            error.queue = route.queue
            raise

    def route(self, task: AnyTask, options: AddOptions = DEFAULT) -> Route:
        """Where a task goes, which is not checked otherwise.

        Raises: as `check`.
        """
        if isinstance(task, Task):
            kind: object = task.type
        elif isinstance(task, dict | Mapping):
            kind = task.get("type")
        else:
            raise InvalidRequestError("task", f"a task is added, not a {type(task).__name__[:QUOTED]}")
        if not isinstance(kind, str):
            raise InvalidRequestError("data.type", "expected a string, the task's type")
        return self._routes.find(kind, options.queue)

    def job(self, checked: Checked, *, depth: int = 0) -> NewJob:
        """The job of a task, with its priority.

        Args:
            depth: how many jobs wait in its queue, as far as it is known.

        Raises:
            InvalidRequestError: no priority can be given to it.
        """
        route, job_id = checked.route, checked.job_id
        opts = {**route.written, **checked.said}
        if job_id:
            opts["jobId"] = job_id
        if "priority" not in opts and (rank := _priority(checked, depth)):
            opts["priority"] = rank
        return NewJob(queue=route.queue, name=route.queue, data=checked.data, opts=opts, id=job_id)


def _encoded(task: Task, route: Route) -> dict[str, Any]:
    if not _ends(task, route.limits.max_depth + SLACK):
        limit = f"expected at most {route.limits.max_depth} levels, found more, or one that contains itself"
        raise InvalidRequestError("data", limit)
    try:
        return encode(task)
    except WireError as error:
        raise InvalidRequestError("task", clean(str(error), MAX_DETAIL)) from error


def _ends(task: Task, levels: int) -> bool:
    """Whether what the task holds is no deeper than that, so that a walk through it comes to an end."""
    level: list[Any] = [task]
    for _ in range(levels):
        below: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is dict:
                values: Iterable[Any] = each.values()
            elif kind is list or kind is tuple:
                values = each
            elif isinstance(each, BaseModel):
                values = [*vars(each).values(), *(each.model_extra or {}).values()]
            else:
                continue  # no JSON, which is found later
            below += [value for value in values if type(value) not in _SINGLE]
        if not below:
            return True
        if len(below) > MAX_HOLDERS:
            return False
        level = below
    return False


def _decoded(data: dict[str, Any], types: Mapping[str, type[Task]], route: Route) -> Task:
    try:
        return decode(data, types, limits=route.limits)
    except DecodeError as error:
        text = str(error).removeprefix(f"{error.path}: ")
        raise InvalidRequestError(clean(error.path, MAX_DETAIL), clean(text, MAX_DETAIL)) from error
    except WireError as error:
        field, _, text = str(error).partition(": ")
        raise InvalidRequestError(field, clean(text, MAX_DETAIL)) from error


def _text(data: dict[str, Any], kind: str) -> tuple[str, int]:
    try:
        return json_of(data)
    except (TypeError, ValueError, RecursionError) as error:
        why = message(error, MAX_DETAIL)
        raise InvalidRequestError("data", f"a task of type '{kind[:QUOTED]}' is no JSON: {why}") from error


def _check_size(size: int, route: Route, own: int | None) -> None:
    if size > route.max_data_bytes:
        limit = f"the {route.max_data_bytes:,} that queue {route.queue} accepts (max_data)"
        raise InvalidRequestError("data", f"{size:,} bytes, more than {limit}")
    if own is not None and size > own:
        raise InvalidRequestError("data", f"{size:,} bytes, more than the {own:,} of its own sizeLimit")


def _job_id(task: Task, told: Mapping[str, Any], child: bool) -> str:
    chosen: str | None = told.get("jobId")
    if chosen is None:
        return job_id_for(task, child=child) or ""
    if child and ":" in chosen:
        raise InvalidRequestError("job_id", "expected no colon in a child's id, at which Node's getFlow would cut it")
    return chosen


def _priority(checked: Checked, depth: int) -> int:
    """By the rule of its type; 0: none."""
    route, options = checked.route, checked.options
    if route.priority is None:
        return 0
    try:
        return calculate_priority(
            checked.task,
            rule=route.priority,
            urgency=options.urgency,
            resource_cost=options.resource_cost,
            queue_depth=depth,
            registered=options.registered,
            enterprise=route.enterprise,
        )
    except (AttributeError, TypeError, ValueError) as error:  # made without validation, so not what its type says
        why = message(error, MAX_DETAIL)
        raise InvalidRequestError(
            "priority", f"a task of type '{checked.task.type}' can't be given one: {why}", queue=route.queue
        ) from error

"""The operations that change something."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from workers.ops.api.operation import Asked, Message
from workers.ops.api.told import told
from workers.queue_service.filter import parse

_ONE = (404, 409)


class ReasonBody(Message):
    """Why."""

    reason: Annotated[str, Field(max_length=500)] = ""
    """For the job's failure and the audit."""


class DrainBody(Message):
    """What of a queue is thrown away."""

    delayed: bool = False
    """Delayed jobs too."""
    dry_run: bool = False
    """Count alone."""


class CleanBody(Message):
    """Which finished, or waiting, jobs are thrown away."""

    state: Literal["completed", "failed", "delayed", "waiting", "prioritized", "paused", "active"]
    older: Annotated[str, Field(max_length=40)] = "0s"
    """At least so old."""
    limit: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """At most so many."""
    dry_run: bool = False
    """Count alone."""


class PriorityBody(Message):
    """A new priority."""

    priority: Annotated[int, Field(ge=0, le=2_097_151)]
    """The lower, the sooner; 0 is before all."""
    lifo: bool = False
    """Before others of the same priority."""


class DelayBody(Message):
    """A new delay."""

    delay_ms: Annotated[int, Field(ge=0, le=2**45)]
    """Milliseconds from now."""


class DataBody(Message):
    """New data."""

    data: dict[str, Any]
    """A task, as Node's producers write it."""
    expected: dict[str, Any] | None = None
    """What the data were when they were looked at: where they have changed since, nothing is done."""


class MoveBody(Message):
    """Where to."""

    to: Annotated[str, Field(min_length=1, max_length=512)]
    """Another queue."""


class ReplayBody(Message):
    """With which data."""

    data: dict[str, Any] | None = None
    """Instead of the job's own."""


class JobsFilterBody(Message):
    """Which jobs are meant; all that is given must hold."""

    state: Annotated[tuple[str, ...], Field(max_length=10)] = ()
    older: Annotated[str | None, Field(max_length=40)] = None
    newer: Annotated[str | None, Field(max_length=40)] = None
    name: Annotated[str | None, Field(max_length=512)] = None
    error: Annotated[str | None, Field(max_length=512)] = None
    where: Annotated[tuple[Annotated[str, Field(max_length=1_024)], ...], Field(max_length=16)] = ()


class BulkBody(Message):
    """What is done to all jobs that match, unless it is a dry run."""

    action: Literal["retry", "promote", "cancel", "remove"]
    filter: JobsFilterBody
    dry_run: bool = True
    """Count alone. Defaults to true: say false to act."""
    limit: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """At most so many in one request; `more` says that there are others."""


class StatusBody(Message):
    """What Node's changeTaskStatus takes."""

    status: Annotated[str, Field(min_length=1, max_length=40)]
    """Of TaskStatus, in whatever case."""
    user_id: Annotated[str, Field(min_length=1, max_length=128)]
    """On whose behalf: the task's owner."""
    queue: Annotated[str | None, Field(max_length=512)] = None
    """In this queue alone; else in all."""


async def pause(asked: Asked) -> Any:
    """Pause a queue for everybody, Node's workers too."""
    return told(await asked.service.pause_queue(asked.path["queue"], actor=asked.actor))


async def resume(asked: Asked) -> Any:
    """Let a paused queue go on."""
    return told(await asked.service.resume_queue(asked.path["queue"], actor=asked.actor))


async def drain(asked: Asked) -> Any:
    """Throw away all that waits in a queue."""
    body: DrainBody = asked.body
    report = await asked.service.drain(
        asked.path["queue"], delayed=body.delayed, dry_run=body.dry_run, actor=asked.actor
    )
    return told(report)


async def clean(asked: Asked) -> Any:
    """Throw away jobs of one state."""
    body: CleanBody = asked.body
    older_s = parse(older=body.older).older_s or 0.0
    report = await asked.service.clean(
        asked.path["queue"], body.state, older_s=older_s, limit=body.limit, dry_run=body.dry_run, actor=asked.actor
    )
    return told(report)


async def bulk(asked: Asked) -> Any:
    """Act on all jobs that match; a dry run unless `dryRun` is false."""
    body: BulkBody = asked.body
    chosen = parse(**body.filter.model_dump())
    report = await asked.service.bulk(
        body.action, asked.path["queue"], chosen, dry_run=body.dry_run, limit=body.limit, actor=asked.actor
    )
    return told(report)


async def retry(asked: Asked) -> Any:
    """Let a finished job run again."""
    return told(await asked.service.retry(*_job(asked), actor=asked.actor))


async def promote(asked: Asked) -> Any:
    """Let a delayed job start now."""
    return told(await asked.service.promote(*_job(asked), actor=asked.actor))


async def cancel(asked: Asked) -> Any:
    """End a job: one that waits at once, one that runs as soon as it can be stopped."""
    return told(await asked.service.cancel(*_job(asked), reason=asked.body.reason, actor=asked.actor))


async def remove(asked: Asked) -> Any:
    """Throw a job away."""
    return told(await asked.service.remove(*_job(asked), actor=asked.actor))


async def priority(asked: Asked) -> Any:
    """Give a waiting job another priority."""
    body: PriorityBody = asked.body
    report = await asked.service.change_priority(*_job(asked), body.priority, lifo=body.lifo, actor=asked.actor)
    return told(report)


async def delay(asked: Asked) -> Any:
    """Give a delayed job another delay."""
    return told(await asked.service.change_delay(*_job(asked), asked.body.delay_ms, actor=asked.actor))


async def data(asked: Asked) -> Any:
    """Give a job other data."""
    body: DataBody = asked.body
    report = await asked.service.change_data(*_job(asked), body.data, expected=body.expected, actor=asked.actor)
    return told(report)


async def move(asked: Asked) -> Any:
    """Move a waiting job to another queue."""
    return told(await asked.service.move(*_job(asked), asked.body.to, actor=asked.actor))


async def replay(asked: Asked) -> Any:
    """Add a job like this one, perhaps with other data."""
    return told(await asked.service.replay(*_job(asked), data=asked.body.data, actor=asked.actor))


async def status(asked: Asked) -> Any:
    """What Node's changeTaskStatus does, for the task's owner."""
    body: StatusBody = asked.body
    changed = await asked.service.change_task_status(
        asked.path["task"], body.status, body.user_id, queue=body.queue, actor=asked.actor
    )
    return told(changed)


def _job(asked: Asked) -> tuple[str, str]:
    return asked.path["queue"], asked.path["job"]

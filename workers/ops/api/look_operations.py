"""The operations that look."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from workers.ops.api.operation import Asked, Message, Operation
from workers.ops.api.schemas import ANSWERS, listing, named, one
from workers.queue_service.errors import QueueUnavailableError
from workers.queue_service.filter import JobFilter, parse

MAX_IDS = 1_000


class JobsQuery(Message):
    """Which jobs of a queue, and which page of them."""

    state: Annotated[tuple[str, ...], Field(max_length=10, description="States, also several.")] = ()
    older: Annotated[str | None, Field(max_length=40, description="At least so old: `1h30m`.")] = None
    newer: Annotated[str | None, Field(max_length=40, description="At most so old.")] = None
    name: Annotated[str | None, Field(max_length=512, description="The job's name; `*` is anything.")] = None
    error: Annotated[str | None, Field(max_length=512, description="A part of the failure's reason.")] = None
    where: Annotated[
        tuple[Annotated[str, Field(max_length=1_024)], ...],
        Field(max_length=16, description='Conditions: `data.userId="7"`, `opts.attempts!=1`, `data.to~example`.'),
    ] = ()
    cursor: Annotated[str | None, Field(max_length=1_024, description="Of the page before.")] = None
    limit: Annotated[int, Field(ge=1, le=1_000, description="Jobs of one page.")] = 50
    oldest_first: Annotated[bool, Field(description="The oldest first; else the newest.")] = False

    def filter(self) -> JobFilter:
        """The same as a filter.

        Raises:
            InvalidRequestError: a part of it is wrong.
        """
        return parse(
            state=self.state, older=self.older, newer=self.newer, name=self.name, error=self.error, where=self.where
        )


class LogsQuery(Message):
    """Which lines of a job's log."""

    start: Annotated[int, Field(ge=0, le=2**31, description="The first line, from 0.")] = 0
    limit: Annotated[int, Field(ge=1, le=1_000, description="Lines of one page.")] = 100


class ThroughputQuery(Message):
    """How far back."""

    minutes: Annotated[int, Field(ge=1, le=20_160, description="Minutes back from now.")] = 60


class TaskQuery(Message):
    """Where to look."""

    queue: Annotated[str | None, Field(max_length=512, description="In this queue alone; else in all.")] = None


class StatusesBody(Message):
    """Tasks whose status is asked for."""

    ids: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], Field(min_length=1, max_length=MAX_IDS)]
    """Ids of tasks or jobs."""
    queue: Annotated[str | None, Field(max_length=512)] = None
    """In this queue alone; else in all."""


async def health(asked: Asked) -> Any:
    """Whether Redis answers, and which queues want a look: paused for everybody, or unreadable."""
    try:
        found = await asked.service.get_queue_status()
    except QueueUnavailableError as error:
        return {"status": "down", "redis": False, "problems": [str(error)]}
    paused = [f"queue {name} is paused for everybody" for name, each in found.items() if each.stats.is_paused]
    unread = [f"queue {name}: {problem}" for name, each in found.items() for problem in each.stats.problems]
    return {"status": "degraded" if paused or unread else "ok", "redis": True, "problems": [*paused, *unread]}


async def queues(asked: Asked) -> Any:
    """Every queue at one moment."""
    return {"queues": [each.json() for each in (await asked.service.get_queue_status()).values()]}


async def queue(asked: Asked) -> Any:
    """One queue at one moment."""
    name = asked.path["queue"]
    return (await asked.service.get_queue_status([name]))[name].json()


async def throughput(asked: Asked) -> Any:
    """What a queue has got done lately."""
    return (await asked.service.throughput(asked.path["queue"], asked.query.minutes)).json()


async def jobs(asked: Asked) -> Any:
    """A page of a queue's jobs."""
    query: JobsQuery = asked.query
    found = await asked.service.jobs(
        asked.path["queue"],
        query.filter(),
        cursor=query.cursor,
        limit=query.limit,
        order="oldest" if query.oldest_first else "newest",
    )
    return {"jobs": [each.json() for each in found.items], "cursor": found.cursor, "lookedAt": found.looked_at}


async def job(asked: Asked) -> Any:
    """One job, whole."""
    return (await asked.service.job(asked.path["queue"], asked.path["job"])).json()


async def logs(asked: Asked) -> Any:
    """A page of a job's own log."""
    query: LogsQuery = asked.query
    found = await asked.service.logs(asked.path["queue"], asked.path["job"], start=query.start, limit=query.limit)
    return {"lines": list(found.lines), "total": found.total, "start": found.start, "next": found.next}


async def task(asked: Asked) -> Any:
    """All that is known of a task."""
    return (await asked.service.get_task_details(asked.path["task"], asked.query.queue)).json()


async def statuses(asked: Asked) -> Any:
    """What Node's getTaskStatuses answers."""
    body: StatusesBody = asked.body
    found = await asked.service.get_task_statuses(body.ids, body.queue)
    return {"statuses": [each.json() for each in found]}


async def events(asked: Asked) -> Any:
    """Not called: see Streams."""
    raise NotImplementedError


class EventsQuery(Message):
    """Which queues' events."""

    queue: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], Field(max_length=100)] = ()


LOOK: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/health",
        id="getHealth",
        summary=named(health),
        role="viewer",
        handle=health,
        answer=ANSWERS["health"],
    ),
    Operation(
        method="GET",
        path="/queues",
        id="listQueues",
        summary=named(queues),
        role="viewer",
        handle=queues,
        answer=listing("queues", ANSWERS["queue"]),
    ),
    Operation(
        method="GET",
        path="/queues/{queue}",
        id="getQueue",
        summary=named(queue),
        role="viewer",
        handle=queue,
        answer=one(ANSWERS["queue"]),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/queues/{queue}/throughput",
        id="getThroughput",
        summary=named(throughput),
        role="viewer",
        handle=throughput,
        query=ThroughputQuery,
        answer=ANSWERS["throughput"],
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/queues/{queue}/jobs",
        id="listJobs",
        summary=named(jobs),
        role="viewer",
        handle=jobs,
        query=JobsQuery,
        answer=listing("jobs", ANSWERS["job"]),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/queues/{queue}/jobs/{job}",
        id="getJob",
        summary=named(job),
        role="viewer",
        handle=job,
        answer=one(ANSWERS["job"]),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/queues/{queue}/jobs/{job}/logs",
        id="getJobLogs",
        summary=named(logs),
        role="viewer",
        handle=logs,
        query=LogsQuery,
        answer=ANSWERS["logs"],
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/tasks/{task}",
        id="getTask",
        summary=named(task),
        role="viewer",
        handle=task,
        query=TaskQuery,
        answer=one(ANSWERS["task"]),
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/tasks/statuses",
        id="getTaskStatuses",
        summary=named(statuses),
        role="viewer",
        handle=statuses,
        body=StatusesBody,
        answer=listing("statuses", ANSWERS["status"]),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/events",
        id="streamEvents",
        summary="What happens to jobs, as server-sent events.",
        role="viewer",
        handle=events,
        query=EventsQuery,
        answer={"type": "string"},
        problems=(404,),
        tag="events",
    ),
)

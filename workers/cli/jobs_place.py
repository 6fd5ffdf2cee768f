"""Where the job is that an id of the command line means."""

from __future__ import annotations

from dataclasses import dataclass

from workers.cli.queue_source import Source
from workers.queue_service.errors import RefusedError, UnknownJobError, UnknownQueueError
from workers.queue_service.verdict import shown


@dataclass(frozen=True, slots=True)
class Place:
    """One job."""

    queue: str
    job_id: str
    state: str


async def located(source: Source, given: str, queue: str | None) -> Place:
    """The job that has this id, or whose task has it. Where a queue is named, a job's own id goes first.

    Raises:
        UnknownJobError: there is none.
        RefusedError: it means several; nothing is guessed.
    """
    if queue is not None:
        try:
            job = await source.job(queue, given)
            return Place(job["queueName"], job["id"], job["state"])
        except (UnknownJobError, UnknownQueueError):
            pass  # a task's id, or a queue as Node's endpoints call it
    task = await source.task(given, queue)
    if task["others"]:
        found = [task, *task["others"]]
        named = ", ".join(f"job {shown(each['jobId'])} in {each['queueName']}" for each in found[:10])
        raise RefusedError(f"{shown(given)} means {named}: name one by the job's id, with --queue")
    return Place(task["queueName"], task["jobId"], task["state"])

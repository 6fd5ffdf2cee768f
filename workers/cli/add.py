"""`fleet add`: add a job, checked as its workers will read it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from config.quantities import parse_duration
from tasks.priority import Urgency
from workers.cli.jobs import Json
from workers.cli.jobs_acts import read_data
from workers.cli.option_groups import with_groups
from workers.cli.output import say, say_json
from workers.cli.queue_session import EXIT_DONE, EXIT_REFUSED, Where, ask
from workers.cli.queue_source import Source
from workers.queue_service.add_options import AddOptions
from workers.queue_service.added import Added
from workers.queue_service.errors import InvalidRequestError


def _milliseconds(text: str) -> int:
    try:
        return round(parse_duration(text) * 1000)
    except PydanticCustomError as error:
        raise typer.BadParameter(error.message()) from None


@with_groups
def add(
    where: Where,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The task type, `email-send`.", show_default=False)],
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON", help="The data as Node writes them; `type` may be left out.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The same from a file; - reads standard input.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", metavar="NAME", show_default="that of the type", help="Where to.")
    ] = None,
    job_id: Annotated[
        str | None, typer.Option("--job-id", help="The job's id.", show_default="that of the task")
    ] = None,
    delay: Annotated[
        int | None, typer.Option("--delay", parser=_milliseconds, metavar="DURATION", help="Start it after `10m`.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", help="The lowest comes first.", show_default="by the queue's rule")
    ] = None,
    urgency: Annotated[
        str | None, typer.Option("--urgency", help="low, normal, high or critical, for the queue's rule.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", help="In all.", show_default="those of the queue")
    ] = None,
    lifo: Annotated[bool, typer.Option("--lifo", help="Before those that wait.")] = False,
    as_json: Json = False,
) -> None:
    """Add a job. Its data are checked first, and it gets the options that the configuration has for its queue.

    The exit code is 0 when it was added, 1 when it was not: a job of its id is there already, the queue is full or not
    configured; 2 when the data or an option are wrong, or Redis can't be asked.
    """

    async def work(source: Source) -> int:
        options = AddOptions(
            queue=queue,
            job_id=job_id,
            delay_ms=delay,
            priority=priority,
            urgency=cast(Urgency | None, urgency),
            attempts=attempts,
            lifo=lifo,
        )
        added = await source.add(_task(type_, read_data(data, file)), options)
        if as_json:
            say_json({to_camel(name): value for name, value in asdict(added).items()})
        else:
            say(_words(added))
        return EXIT_REFUSED if added.duplicate and not added.held else EXIT_DONE

    raise ask(where, work)


def _task(type_: str, data: Any) -> dict[str, Any]:
    """The data with their type.

    Raises:
        InvalidRequestError: they are no object, or of another type.
    """
    if not isinstance(data, dict):
        raise InvalidRequestError("data", "expected an object")
    if data.setdefault("type", type_) != type_:
        raise InvalidRequestError("data.type", f"is another one than {type_}: leave one of them out")
    return data


def _words(added: Added) -> str:
    if not added.duplicate:
        return f"{added.queue}: added job {added.job_id}"
    why = "its id" if added.by == "id" else "its deduplication id"
    if added.held:
        return f"{added.queue}: will be added when job {added.job_id} ends, which runs and has {why}"
    return f"{added.queue}: not added, for job {added.job_id} has {why} already and is {added.state}"

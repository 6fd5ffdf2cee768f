"""`fleet jobs`: look at jobs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from pydantic_core import PydanticCustomError

from config.quantities import parse_duration
from workers.cli.jobs_place import located
from workers.cli.jobs_table import details, event_line, table
from workers.cli.jobs_walk import listed
from workers.cli.option_groups import with_groups
from workers.cli.output import complain, draw, event_shown, job_shown, line_shown, say, say_json, task_shown
from workers.cli.queue_session import EXIT_DONE, EXIT_REFUSED, Where, ask
from workers.cli.queue_source import Source
from workers.cli.wanted import Wanted

app = typer.Typer(no_args_is_help=True)

Queue = Annotated[
    str | None, typer.Option("--queue", "-q", help="In this queue alone.", show_default="all", metavar="NAME")
]
Queues = Annotated[
    list[str], typer.Option("--queue", "-q", help="Of this queue alone; may be repeated.", metavar="NAME")
]
Json = Annotated[bool, typer.Option("--json", help="As one JSON document.")]
Raw = Annotated[bool, typer.Option("--raw", help="All of it as it is: secrets too, and long values whole.")]
Id = Annotated[str, typer.Argument(help="A job's id, or a task's.", show_default=False)]


@app.command("list")
@with_groups
def list_jobs(
    where: Where,
    wanted: Wanted,
    queue: Queues = [],  # noqa: B006 - typer makes a new list each time
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Those after a list that ended with it.")] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The oldest first; else the newest.")] = False,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """List jobs, of all queues or of some. Secrets in their data are hidden.

    The exit code is 0 when there are some, 1 when nothing matches or a queue is not there, 2 when it can't be asked:
    Redis does not answer, the configuration or a filter can't be used.
    """

    async def work(source: Source) -> int:
        wanted.filter()
        found = await listed(source, queue, wanted, cursor=cursor, limit=limit, oldest_first=oldest_first)
        found.jobs = [job_shown(job, raw=raw) for job in found.jobs]
        if as_json:
            say_json(found.json())
        elif found.jobs:
            draw(table(found.jobs, time.time() * 1000))
            if found.cursor:
                say(f"more: --cursor {found.cursor}")
        else:
            complain(f"no job matches: {wanted.filter()} ({found.looked_at:,} were looked through)")
            if found.cursor:
                complain(f"more are left to look through: --cursor {found.cursor}")
        return EXIT_DONE if found.jobs else EXIT_REFUSED

    raise ask(where, work)


@app.command()
@with_groups
def show(where: Where, id_: Id, queue: Queue = None, raw: Raw = False, as_json: Json = False) -> None:
    """Show all that is known of a job, by its own id or its task's. Secrets in its data are hidden.

    The exit code is 0, 1 when there is no such job, 2 when it can't be asked.
    """

    async def work(source: Source) -> int:
        found = task_shown(await source.task(id_, queue), raw=raw)
        if as_json:
            say_json(found)
        else:
            draw(details(found))
        return EXIT_DONE

    raise ask(where, work)


@app.command()
@with_groups
def logs(
    where: Where,
    id_: Id,
    queue: Queue = None,
    start: Annotated[int, typer.Option("--start", min=0, help="The first line, from 0.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many lines.")] = 100,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Show what a job has written to its log, the oldest line first. Secrets in it are hidden.

    The exit code is 0, 1 when there is no such job, 2 when it can't be asked.
    """

    async def work(source: Source) -> int:
        place = await located(source, id_, queue)
        found = await source.logs(place.queue, place.job_id, start=start, limit=limit)
        lines = [line_shown(line, raw=raw) for line in found["lines"]]
        if as_json:
            say_json({**found, "queueName": place.queue, "jobId": place.job_id, "lines": lines})
            return EXIT_DONE
        for line in lines:
            say(line)
        if found["next"] is not None:
            complain(f"{found['total']:,} lines in all; more: --start {found['next']}")
        return EXIT_DONE

    raise ask(where, work)


async def _follow(
    source: Source, queues: list[str], wanted: frozenset[str], count: int | None, raw: bool, as_json: bool
) -> None:
    """Print events until there were so many. What is no entry of a stream, like a gap, is always told, not counted."""
    left = count
    async with source.events(queues) as events:
        async for each in events:
            is_entry = each["id"] is not None
            if is_entry and wanted and each["event"] not in wanted:
                continue
            shown = event_shown(each, raw=raw)
            if as_json:
                say_json(shown, indent=None)
            else:
                say(event_line(shown))
            if left is not None and is_entry:
                left -= 1
                if not left:
                    return


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except PydanticCustomError as error:
        raise typer.BadParameter(error.message()) from None


@app.command()
@with_groups
def tail(
    where: Where,
    queue: Queues = [],  # noqa: B006
    event: Annotated[
        list[str],
        typer.Option("--event", "-e", help="These events alone: added, active, progress, completed, failed, …"),
    ] = [],  # noqa: B006
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many.")] = None,
    for_: Annotated[
        float | None, typer.Option("--for", parser=_duration, metavar="DURATION", help="End by itself after `20s`.")
    ] = None,
    raw: Raw = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one line for each event.")] = False,
) -> None:
    """Show what happens to jobs, as it happens, until Ctrl-C. Secrets in it are hidden.

    The exit code is 0, 1 when a queue is not there, 2 when Redis can't be asked at the start; if it goes away later, it
    is waited for.
    """

    async def work(source: Source) -> int:
        try:
            async with asyncio.timeout(for_) as span:
                await _follow(source, queue, frozenset(event), count, raw, as_json)
        except TimeoutError:
            if not span.expired():
                raise
        return EXIT_DONE

    try:
        raise ask(where, work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_DONE) from None

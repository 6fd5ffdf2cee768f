"""`fleet queues`: list them, pause and resume them, and throw away what is in them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workers.cli.act_reports import Outcome
from workers.cli.option_groups import with_groups
from workers.cli.output import draw, say_json
from workers.cli.queue_session import EXIT_DONE, Where, ask
from workers.cli.queue_source import Source
from workers.cli.queues_table import table
from workers.queue_service.errors import InvalidRequestError, QueueServiceError, QueueUnavailableError
from workers.queue_service.filter import parse

app = typer.Typer(no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(help="The queues.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The queue.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="As one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes/--dry-run", "-y", help="Do it; without it, only count.")]


@app.command("list")
@with_groups
def list_queues(where: Where, as_json: Json = False) -> None:
    """List the queues, those of the configuration first, then those that others have made in Redis.

    The exit code is 0, or 2 when they can't be asked for.
    """

    async def work(source: Source) -> int:
        found = await source.queues(())
        if as_json:
            say_json({"queues": found})
        else:
            draw(table(found))
        return EXIT_DONE

    raise ask(where, work)


@app.command()
@with_groups
def pause(where: Where, queues: Names, as_json: Json = False) -> None:
    """Start no more jobs of these queues, in no worker, Node's included; jobs that run, run on.

    The exit code is 0 when they are paused, 1 when one is not there, 2 when Redis can't be asked.
    """
    raise _act_on(where, "pause", queues, as_json)


@app.command()
@with_groups
def resume(where: Where, queues: Names, as_json: Json = False) -> None:
    """Let queues go on that are paused, also by Node's shutdown.

    The exit code is 0 when they are open, 1 when one is not there, 2 when Redis can't be asked.
    """
    raise _act_on(where, "resume", queues, as_json)


@app.command()
@with_groups
def drain(
    where: Where,
    queue: Name,
    delayed: Annotated[bool, typer.Option("--delayed", help="Jobs that are not due, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")] = 100_000,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove the jobs that wait in a queue. Without --yes they are only counted.

    The exit code is 0 when it is done, or was counted; 1 when there is no such queue; 2 when Redis can't be asked.
    """
    raise _act_on(where, "drain", [queue], as_json, delayed=delayed, limit=limit, dry_run=not yes)


@app.command()
@with_groups
def clean(
    where: Where,
    queue: Name,
    state: Annotated[
        str,
        typer.Option(
            "--state",
            help="completed, failed, delayed, prioritized, waiting, paused, or active: those alone that no worker has.",
        ),
    ],
    older: Annotated[
        str | None, typer.Option("--older", metavar="AGE", help="At least so old, like `24h`.", show_default="any")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")] = 1000,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove a queue's jobs of one state. Without --yes they are only counted.

    The exit code is 0 when it is done, or was counted; 1 when there is no such queue; 2 when Redis can't be asked.
    """
    raise _act_on(where, "clean", [queue], as_json, state=state, older=older, limit=limit, dry_run=not yes)


def _act_on(where: Where, action: str, queues: list[str], as_json: bool, **arguments: Any) -> typer.Exit:
    async def work(source: Source) -> int:
        if "older" in arguments:
            arguments["older_s"] = parse(older=arguments.pop("older")).older_s or 0.0
        outcome = Outcome()
        for queue in queues:
            try:
                outcome.reports.append(await source.act_on_queue(action, queue, **arguments))
            except (InvalidRequestError, QueueUnavailableError):
                outcome.tell(as_json)
                raise
            except QueueServiceError as error:
                outcome.refuse(error, queue=queue)
        return outcome.tell(as_json)

    return ask(where, work)

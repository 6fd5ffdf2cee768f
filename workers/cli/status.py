"""`fleet status`: all queues at one moment, and whether one of them wants a look."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.cli.option_groups import with_groups
from workers.cli.output import draw, say, say_json
from workers.cli.queue_session import EXIT_DONE, EXIT_REFUSED, Where, ask
from workers.cli.queue_source import Source
from workers.cli.queues_table import notes, table, worries


@with_groups
def status(
    where: Where,
    queues: Annotated[
        list[str], typer.Argument(help="These queues alone.", show_default="all, also those that others made")
    ] = [],  # noqa: B006 - typer makes a new list each time
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show what is in all queues, who works on them, and what wants a look.

    The exit code is 0 when all is well, 1 when a queue wants a look: it is paused for everyone, jobs could start and
    nobody works on it, or it can't be read; failed jobs alone do not. 1 too for a queue that is not there, 2 when it
    can't be told: Redis does not answer, or the configuration can't be used.
    """

    async def work(source: Source) -> int:
        found = await source.queues(queues)
        wanting = {each["queueName"]: worries(each) for each in found if worries(each)}
        if as_json:
            say_json({"status": "attention" if wanting else "ok", "queues": found, "attention": wanting})
        else:
            draw(table(found))
            for each in found:
                for line in (*worries(each), *notes(each)):
                    say(f"{each['queueName']}: {line}")
        return EXIT_REFUSED if wanting else EXIT_DONE

    raise ask(where, work)

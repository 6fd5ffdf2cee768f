"""All commands of `fleet`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from workers.cli import config as config_group
from workers.cli import (
    jobs,
    jobs_acts,  # noqa: F401 - its commands are those of `jobs`
    queues,
)
from workers.cli import schema as schema_group
from workers.cli.add import add
from workers.cli.dev import dev
from workers.cli.run import run
from workers.cli.status import status
from workers.cli.workers import workers


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fleet {version('fleet-workers')}")
        raise typer.Exit


app = typer.Typer(
    name="fleet",
    help="Fleet: workers in Python for the BullMQ queues of a Node.js stack.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def fleet(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Fleet: workers in Python for the BullMQ queues of a Node.js stack."""


app.command()(run)
app.command()(dev)
app.command()(workers)
app.command()(status)
app.command()(add)
app.add_typer(queues.app, name="queues", help="List queues; pause, resume, drain and clean them.")
app.add_typer(jobs.app, name="jobs", help="Look at jobs, and act on them: one, or all that filters mean.")
app.add_typer(config_group.app, name="config", help="Check, show and explain the configuration.")
app.add_typer(schema_group.app, name="schema", help="The jobs' data in JSON Schema and TypeScript; compare versions.")

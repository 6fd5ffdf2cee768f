"""All commands of `fleet`."""

from __future__ import annotations

import typer

from workers.cli import config as config_group
from workers.cli.dev import dev
from workers.cli.run import run

app = typer.Typer(
    name="fleet",
    help="Fleet: workers in Python for the BullMQ queues of a Node.js stack.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(dev)
app.add_typer(config_group.app, name="config", help="Check, show and explain the configuration.")

"""`fleet workers`: what the processes of a running fleet do. Looks, and changes nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from workers.cli.workers_source import SourceError, ask
from workers.cli.workers_table import render
from workers.runtime.supervision.view import FleetView
from workers.telemetry.logs import visible

EXIT_NOT_READY, EXIT_UNREACHABLE = 1, 2
#: Between two looks of `--watch`, seconds.
EVERY_S = 1.0
#: Columns of what goes into a pipe.
PIPE_WIDTH = 180


def workers(
    url: Annotated[
        str, typer.Option("--url", help="Where the fleet tells its health and metrics, on this machine.")
    ] = "http://127.0.0.1:9464",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one line for each look.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second, until Ctrl-C.")] = False,
) -> None:
    """Show what the processes of a running fleet do: state, memory, jobs, restarts, and why.

    The exit code is 0 when every process takes jobs, 1 when one does not, 2 when the fleet can't be asked.
    """
    look = _Look(url)
    if not watch:
        look.once()
        _print(look, as_json)
        raise typer.Exit(look.code)
    try:
        _watch(look, as_json)
    except KeyboardInterrupt:
        raise typer.Exit(look.code) from None


@dataclass
class _Look:
    """The last answer."""

    url: str
    view: FleetView | None = None
    problem: str = ""
    text: str = ""
    """The answer as it came."""

    def once(self) -> None:
        """Ask."""
        try:
            self.view, self.text = ask(self.url)
            self.problem = ""
        except SourceError as error:
            self.view, self.problem = None, str(error)

    @property
    def code(self) -> int:
        """For the shell."""
        if self.view is None:
            return EXIT_UNREACHABLE
        return 0 if self.view.ready else EXIT_NOT_READY


def _print(look: _Look, as_json: bool) -> None:
    if look.view is None:
        typer.echo(f"fleet workers: {visible(look.problem)}", err=True)
    elif as_json:
        typer.echo(look.text)
    else:
        _console().print(render(look.view))


def _watch(look: _Look, as_json: bool) -> None:
    console = _console()
    if as_json or not console.is_terminal:
        while True:
            look.once()
            _print(look, as_json)
            sys.stdout.flush()
            time.sleep(EVERY_S)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            look.once()
            frame = render(look.view) if look.view is not None else Text(visible(look.problem))
            live.update(frame, refresh=True)
            time.sleep(EVERY_S)


def _console() -> Console:
    """As wide as the terminal; into a pipe as wide as it takes."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)

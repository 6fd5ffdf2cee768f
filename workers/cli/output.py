"""What the commands that look at queues and act on them print: nothing in it commands a terminal, and by default no
secret is in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from workers.telemetry.logs import visible
from workers.telemetry.redaction import redact, redact_text

#: Columns of what goes into a pipe.
PIPE_WIDTH = 180
#: Characters of one line of a log, and of one error, that are shown.
MAX_LINE, MAX_ERROR = 16 * 1024, 1000
#: What producers and processors have written into a job: where secrets may be.
_WRITTEN = ("data", "opts", "progress", "returnvalue", "failedReason", "deferredFailure", "stacktrace")
#: What the feed itself says of an event.
_OWN = ("queueName", "event", "id", "jobId", "timestamp")


def job_shown(job: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """A job's document; without `raw` its secrets are hidden, and long values cut."""
    return dict(job) if raw else {key: redact(value) if key in _WRITTEN else value for key, value in job.items()}


def task_shown(task: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """The same for a task's details, which have the job in them."""
    return {**job_shown(task, raw=raw), "job": job_shown(task["job"], raw=raw)}


def event_shown(event: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """The same for an event."""
    return dict(event) if raw else {key: value if key in _OWN else redact(value) for key, value in event.items()}


def line_shown(line: str, *, raw: bool) -> str:
    """The same for a line of a job's log."""
    return line if raw else redact_text(line, MAX_LINE)


def json_text(document: Any, *, indent: int | None = 2) -> str:
    """JSON whose control characters and non-ASCII ones are escapes: for programs, and harmless on a terminal."""
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def say_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a document; without indent it is a line."""
    typer.echo(json_text(document, indent=indent))


def say(text: str) -> None:
    """Print a line."""
    _encodable(sys.stdout)
    typer.echo(visible(text))


def say_lines(text: str) -> None:
    """Print a text of several lines."""
    for line in text.split("\n"):
        say(line)


def complain(text: str) -> None:
    """Print a line on standard error."""
    _encodable(sys.stderr)
    typer.echo(f"fleet: {visible(text[:MAX_ERROR])}", err=True)


def draw(what: RenderableType) -> None:
    """Print a table: as wide as the terminal; into a pipe as wide as it takes."""
    _encodable(sys.stdout)
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(what)


def cell(text: object, style: str = "") -> Text:
    """A text from outside in a table: as it is, no markup, on one line."""
    return Text(visible(str(text)), style=style)


def _encodable(stream: TextIO | Any) -> None:
    """What the terminal's encoding has no letter for is an escape, and no error."""
    if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")

"""The options that say which jobs are meant."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer

from workers.queue_service.filter import JobFilter, parse


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """All that is given must hold. Kept as it was written, as the HTTP API takes it."""

    state: Annotated[
        list[str],
        typer.Option(
            "--state",
            help="waiting, prioritized, delayed, active, waiting-children, paused, completed, failed or all; "
            "several with commas between.",
        ),
    ] = field(default_factory=list)
    older: Annotated[
        str | None,
        typer.Option(
            "--older", metavar="AGE", help="At least so old, like `1h30m`: since it ended, started, was added."
        ),
    ] = None
    newer: Annotated[str | None, typer.Option("--newer", metavar="AGE", help="At most so old.")] = None
    name: Annotated[str | None, typer.Option("--name", help="The job's name; `*` stands for any characters.")] = None
    error: Annotated[str | None, typer.Option("--error", help="A part of the failure's reason.")] = None
    where: Annotated[
        list[str],
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="`data.userId=42`, `data.to~example.com`, `opts.attempts!=5`; may be repeated, all must hold.",
        ),
    ] = field(default_factory=list)

    def filter(self) -> JobFilter:
        """What they say.

        Raises:
            InvalidRequestError: one of them can't be read; names it.
        """
        return parse(**asdict(self))

    @property
    def is_given(self) -> bool:
        """Whether any of them was written."""
        return any(value not in (None, []) for value in asdict(self).values())

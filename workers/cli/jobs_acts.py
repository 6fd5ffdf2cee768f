"""`fleet jobs`: act on jobs, by their ids at once, or on all that are meant, which wants --yes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from workers.cli.act_reports import Outcome
from workers.cli.jobs import Json, app
from workers.cli.jobs_place import Place, located
from workers.cli.option_groups import with_groups
from workers.cli.queue_session import Where, ask
from workers.cli.queue_source import Document, Source
from workers.cli.wanted import Wanted
from workers.queue_service.errors import InvalidRequestError, QueueServiceError, QueueUnavailableError

#: Bytes of the largest data that are read.
MAX_DATA = 16 * 1024 * 1024

CODES = (
    "The exit code is 0 when it is done (or, without --yes, when something matches), 1 when a job is not there, can't "
    "be acted on as it is now, or nothing matches, 2 when it can't be asked: Redis does not answer, the configuration "
    "or a filter can't be used."
)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The options that say which jobs, and whether to do it."""

    queue: Annotated[
        str | None, typer.Option("--queue", "-q", metavar="NAME", help="Their queue; filters need it.")
    ] = None
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many, where filters say which.")
    ] = 1000
    yes: Annotated[
        bool | None,
        typer.Option(
            "--yes/--dry-run",
            "-y",
            help="Do it, or only say to what it would be done.",
            show_default="of ids: do it; of filters: only say",
        ),
    ] = None
    as_json: Json = False


Ids = Annotated[list[str], typer.Argument(help="Ids of jobs, or of tasks; else filters.", show_default=False)]
Command: TypeAlias = Callable[..., None]
_NONE: list[str] = []


def _command(words: str) -> Callable[[Command], Command]:
    """A command whose help begins with these words."""

    def register(function: Command) -> Command:
        return app.command(help=f"{words}\n\n{CODES}")(with_groups(function))

    return register


@_command("Let failed or completed jobs run once more; of filters without a state, the failed ones alone.")
def retry(
    where: Where,
    wanted: Wanted,
    chosen: Chosen,
    ids: Ids = _NONE,
    reset_attempts: Annotated[
        bool, typer.Option("--reset-attempts", help="With all their attempts again. Of ids alone.")
    ] = False,
) -> None:
    """See CODES."""
    raise _act(where, "retry", ids, wanted, chosen, **({"reset_attempts": True} if reset_attempts else {}))


@_command("Let delayed jobs start now.")
def promote(where: Where, wanted: Wanted, chosen: Chosen, ids: Ids = _NONE) -> None:
    """See CODES."""
    raise _act(where, "promote", ids, wanted, chosen)


@_command("End jobs for good: those that wait at once, those that run as soon as their worker can stop them.")
def cancel(
    where: Where,
    wanted: Wanted,
    chosen: Chosen,
    ids: Ids = _NONE,
    reason: Annotated[str, typer.Option("--reason", help="Why, for their failure and the audit. Of ids alone.")] = "",
) -> None:
    """See CODES."""
    raise _act(where, "cancel", ids, wanted, chosen, **({"reason": reason} if reason else {}))


@_command("Remove jobs that no worker has, with their children.")
def remove(
    where: Where,
    wanted: Wanted,
    chosen: Chosen,
    ids: Ids = _NONE,
    keep_children: Annotated[bool, typer.Option("--keep-children", help="Leave their children. Of ids alone.")] = False,
) -> None:
    """See CODES."""
    raise _act(where, "remove", ids, wanted, chosen, **({"children": False} if keep_children else {}))


@_command("Take jobs that wait or have failed to another queue, with their id, data, options, attempts and logs.")
def move(
    where: Where,
    wanted: Wanted,
    chosen: Chosen,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="The other queue.", show_default=False)],
    ids: Ids = _NONE,
) -> None:
    """See CODES."""
    raise _act(where, "move", ids, wanted, chosen, to=to)


@_command("Add jobs like ones that have ended, under new ids; of filters without a state, like the failed ones.")
def replay(
    where: Where,
    wanted: Wanted,
    chosen: Chosen,
    ids: Ids = _NONE,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="Other data, for a single id.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The same from a file; - reads standard input.")] = None,
) -> None:
    """See CODES."""
    if data is None and file is None:
        raise _act(where, "replay", ids, wanted, chosen)

    async def work(source: Source) -> int:
        if len(ids) != 1:
            raise InvalidRequestError("--data", "is for a single id")
        return await _on_ids(source, "replay", ids, chosen, {"data": read_data(data, file)})

    raise ask(where, work)


def read_data(data: str | None, file: Path | None) -> Any:
    """The JSON of --data or --file.

    Raises:
        InvalidRequestError: it is none, there is too much, or both are given.
    """
    if data is not None and file is not None:
        raise InvalidRequestError("--data", "or --file, not both")
    name = "--data" if data is not None else "--file"
    try:
        text = data.encode() if data is not None else _bytes(file or Path("-"))
        if len(text) > MAX_DATA:
            raise InvalidRequestError(name, f"expected at most {MAX_DATA:,} bytes")
        return json.loads(text)
    except OSError as error:
        raise InvalidRequestError(name, f"can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(name, f"expected JSON: {error}") from None


def _bytes(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read(MAX_DATA + 1)
    with file.open("rb") as stream:
        return stream.read(MAX_DATA + 1)


def _act(where: Where, action: str, ids: list[str], wanted: Wanted, chosen: Chosen, **arguments: Any) -> typer.Exit:
    async def work(source: Source) -> int:
        if ids and wanted.is_given:
            raise InvalidRequestError("ids", "or filters, not both")
        if ids:
            return await _on_ids(source, action, ids, chosen, arguments)
        return await _on_all(source, action, wanted, chosen, arguments)

    return ask(where, work)


async def _on_all(source: Source, action: str, wanted: Wanted, chosen: Chosen, arguments: dict[str, Any]) -> int:
    """On all that are meant, in one request."""
    if not wanted.is_given:
        raise InvalidRequestError("ids", "name jobs, or say with filters which are meant, like --state failed")
    if chosen.queue is None:
        raise InvalidRequestError("--queue", "say in which queue")
    to = arguments.pop("to", None)
    if arguments:
        raise InvalidRequestError(f"--{next(iter(arguments)).replace('_', '-')}", "is for jobs named by their ids")
    wanted.filter()
    report = await source.bulk(action, chosen.queue, wanted, to=to, dry_run=not chosen.yes, limit=chosen.limit)
    return Outcome([report]).tell(chosen.as_json)


async def _on_ids(source: Source, action: str, ids: list[str], chosen: Chosen, arguments: dict[str, Any]) -> int:
    """One after another. One that is refused does not keep the others; a Redis that goes away does."""
    outcome = Outcome()
    for job_id in dict.fromkeys(ids):
        try:
            place = await located(source, job_id, chosen.queue)
            if chosen.yes is False:
                outcome.reports.append(_would(action, place))
            else:
                outcome.reports.append(await source.act(action, place.queue, place.job_id, **arguments))
        except (InvalidRequestError, QueueUnavailableError):
            outcome.tell(chosen.as_json)
            raise
        except QueueServiceError as error:
            outcome.refuse(error, id=job_id)
    return outcome.tell(chosen.as_json)


def _would(action: str, place: Place) -> Document:
    """A report of a dry run. Whether its state allows the act is seen when it is done."""
    return {
        "action": action,
        "queue": place.queue,
        "matched": 1,
        "done": 0,
        "dryRun": True,
        "requested": {},
        "skipped": {},
        "jobIds": [place.job_id],
        "more": False,
    }

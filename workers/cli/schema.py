"""`fleet schema`: the schema of the jobs' data, for TypeScript and Python's type checkers, and whether a change of it
breaks anything.
"""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from workers.wire_schema.any_task import ANY_TASK_FILE, any_task_text
from workers.wire_schema.change import Change, Effect, changes
from workers.wire_schema.forms import NotComparable
from workers.wire_schema.json_schema import SCHEMA_FILE, Schema, schema_of, schema_text, wire_schema
from workers.wire_schema.typescript import TYPESCRIPT_FILE, typescript_text

#: The exit codes of `check`, and of the others where a file is out of date or a type unknown.
EXIT_BREAKS, EXIT_USAGE = 1, 2
#: The largest file that is read; a schema of tasks has a hundredth of it.
MAX_BYTES = 10_000_000

app = typer.Typer(no_args_is_help=True)

CheckOption = Annotated[bool, typer.Option("--check", help="Only say whether the committed file is current.")]
WriteOption = Annotated[bool, typer.Option("--write", help="Write the committed file instead of printing.")]
TypeOption = Annotated[
    str, typer.Option("--type", "-t", help="This task type alone, such as `email-send`.", show_default=False)
]


@app.command("json")
def json_schema(type_: TypeOption = "", check: CheckOption = False, write: WriteOption = False) -> None:
    """Print the JSON Schema (draft 2020-12) of every task and of AnyTask.

    With --check the exit code is 1 where the committed file is out of date.
    """
    _made(schema_text(_asked(type_, check or write)), SCHEMA_FILE, "json", check, write)


@app.command()
def typescript(type_: TypeOption = "", check: CheckOption = False, write: WriteOption = False) -> None:
    """Print the TypeScript declarations (.d.ts) of every task and of AnyTask.

    With --check the exit code is 1 where the committed file is out of date.
    """
    _made(typescript_text(_asked(type_, check or write)), TYPESCRIPT_FILE, "typescript", check, write)


@app.command()
def python(check: CheckOption = False, write: WriteOption = False) -> None:
    """Print the stub (.pyi) that tells Python's type checkers what AnyTask is.

    With --check the exit code is 1 where the committed file is out of date.
    """
    _made(any_task_text(), ANY_TASK_FILE, "python", check, write)


@app.command("check")
def check_change(
    old: Annotated[str, typer.Argument(help="The schema before: a file made by `fleet schema json`; - reads it.")],
    new: Annotated[
        str, typer.Argument(help="The schema after it; without it, that of this installation.", show_default=False)
    ] = "",
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Workers of both versions run: what older ones can't read breaks, too.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A warning breaks, too: a new field that may already be sent undeclared.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say whether a change of the schema breaks existing producers, or jobs that wait.

    The exit code is 0 when nothing breaks, 1 when something does, 2 when the two can't be compared. Warnings alone
    leave it at 0, unless --strict is given.
    """
    if old == new == "-":
        raise _refused("only one of the two can come from standard input")
    try:
        found = changes(_read(old), _read(new) if new else wire_schema())
    except NotComparable as error:
        raise _refused(str(error)) from None
    fatal = {Effect.PRODUCERS, Effect.WAITING}
    fatal |= ({Effect.OLDER_WORKERS} if mixed else set()) | ({Effect.UNDECLARED} if strict else set())
    breaks = any(fatal & each.effects for each in found)
    typer.echo(_as_json(found, breaks) if as_json else _as_text(found, breaks))
    raise typer.Exit(EXIT_BREAKS if breaks else 0)


def _asked(type_: str, whole: bool) -> Schema:
    schema = wire_schema()
    if not type_:
        return schema
    if whole:
        raise _refused("--type: the committed file holds all types; leave --check and --write out")
    try:
        return schema_of(type_, schema)
    except KeyError:
        known = ", ".join(schema["discriminator"]["mapping"])
        raise _refused(f"--type: expected one of {known}, found {type_!r}") from None


def _made(text: str, file: Path, command: str, check: bool, write: bool) -> None:
    if check and write:
        raise _refused("--check or --write, not both")
    if check:
        if (file.read_text(encoding="utf-8") if file.exists() else "") != text:
            typer.echo(f"{file} is out of date; write it with: fleet schema {command} --write", err=True)
            raise typer.Exit(1)
        typer.echo(f"{file} is current")
    elif write:
        file.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {file}")
    else:
        typer.echo(text, nl=False)


def _read(name: str) -> Schema:
    """The schema in a file, or on standard input."""
    try:
        with _opened(name) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _refused(f"{name} is larger than {MAX_BYTES:,} bytes: no schema made by `fleet schema json`")
        schema = json.loads(data.decode("utf-8"))
    except OSError as error:
        raise _refused(f"can't read {name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _refused(f"{name} isn't JSON: {error}") from None
    if not isinstance(schema, dict):
        raise _refused(f"{name} isn't a schema made by `fleet schema json`")
    return schema


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    # Standard input stays open.
    return nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb")


def _refused(text: str) -> typer.Exit:
    typer.echo(f"fleet schema: {text}", err=True)
    return typer.Exit(EXIT_USAGE)


def _as_text(found: list[Change], breaks: bool) -> str:
    ifs = []
    if any(Effect.OLDER_WORKERS in each.effects for each in found):
        ifs.append("if workers are updated before producers")
    if any(each.warns for each in found):
        ifs.append("if no job carries the fields warned of already")
    verdict = "It breaks." if breaks else f"{' '.join(['Nothing breaks', ' and '.join(ifs)]).strip()}."
    return "\n".join([*(str(each) for each in found), verdict])


def _as_json(found: list[Change], breaks: bool) -> str:
    told = {
        "breaks": breaks,
        "warns": any(each.warns for each in found),
        "changes": [each.as_json() for each in found],
    }
    return json.dumps(told, indent=2, ensure_ascii=False)

"""`fleet config`: check the configuration, show it, explain it, print its JSON Schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from config.errors import ConfigError
from config.json_schema import SCHEMA_FILE, fleet_schema_text
from config.loader import LoadedConfig, load
from config.schema import QueueConfig
from workers.cli.options import ConfigOption, OverlayOption, SetOption

#: The exit code for a configuration that can't be used, or a key that isn't there.
EXIT_USAGE = 2

app = typer.Typer(no_args_is_help=True)


def _load(config: Path, overlay: list[Path], set_: list[str]) -> LoadedConfig:
    """Load, or say on standard error all that is wrong and exit with 2."""
    try:
        return load(config, overlays=overlay, overrides=set_)
    except ConfigError as error:
        raise _refused(str(error)) from None


def _without_effect(queues: Iterable[QueueConfig]) -> list[str]:
    """What is configured in vain."""
    plain = {name: QueueConfig.model_fields[name].default for name in ("slo", "scale")}
    return [f"queues.*.{name}" for name, default in plain.items() if any(getattr(e, name) != default for e in queues)]


def _refused(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(EXIT_USAGE)


@app.command()
def check(
    config: ConfigOption,
    overlay: OverlayOption = [],  # noqa: B006 - typer makes a new list each time
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Check everything, the options of the queues' own modules included.

    The exit code is 0 when all is well, else 2 with one line for each thing to correct.
    """
    # Imported here, since it brings every queue module; the other commands do without.
    from workers.fleet import check_options

    loaded = _load(config, overlay, set_)
    if issues := check_options(loaded):
        raise _refused(str(ConfigError(issues)))
    queues, pools = len(loaded.config.queues), len(loaded.config.pools)
    files = ", ".join(str(file) for file in [config, *overlay])
    typer.echo(f"{files}: correct (queues: {queues}, pools: {pools})")
    if waiting := _without_effect(loaded.config.queues.values()):
        typer.echo(f"read, but nothing acts on it yet: {', '.join(waiting)}")


@app.command()
def show(
    config: ConfigOption,
    overlay: OverlayOption = [],  # noqa: B006
    set_: SetOption = [],  # noqa: B006
    resolved: Annotated[
        bool, typer.Option("--resolved", help="With every default, and ${…} filled from the environment.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of YAML.")] = False,
) -> None:
    """Show files, overlays, environment and command line as one. Secrets are masked."""
    loaded = _load(config, overlay, set_)
    tree: dict[str, Any] = loaded.resolved() if resolved else loaded.merged()
    if as_json:
        typer.echo(json.dumps(tree, indent=2, ensure_ascii=False))
        return
    yaml = YAML(pure=True)
    yaml.width = 4096
    yaml.dump(tree, sys.stdout)


@app.command()
def explain(
    config: ConfigOption,
    path: Annotated[
        str, typer.Argument(help="A key such as `queues.email-send`; without it, everything.", show_default=False)
    ] = "",
    overlay: OverlayOption = [],  # noqa: B006
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Say each value in force and where it comes from. Secrets are masked."""
    loaded = _load(config, overlay, set_)
    try:
        leaves = loaded.explain(loaded.find(path) if path else ())
    except LookupError as error:
        raise _refused(f"{path}: {error}") from None
    widths = [max(len(part) for part in column) for column in zip(*((x.path, x.value) for x in leaves), strict=True)]
    for leaf in leaves:
        typer.echo(f"{leaf.path:<{widths[0]}}  {leaf.value:<{min(widths[1], 40)}}  {leaf.origin}")


@app.command()
def schema(
    check: Annotated[bool, typer.Option("--check", help="Only say whether config/schema.json is current.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write config/schema.json instead of printing.")] = False,
) -> None:
    """Print the JSON Schema of fleet.yaml, for editors."""
    text = fleet_schema_text()
    if check:
        current = SCHEMA_FILE.read_text(encoding="utf-8") if SCHEMA_FILE.exists() else ""
        if current != text:
            typer.echo(f"{SCHEMA_FILE} is out of date; write it with: fleet config schema --write", err=True)
            raise typer.Exit(1)
        typer.echo(f"{SCHEMA_FILE} is current")
    elif write:
        SCHEMA_FILE.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {SCHEMA_FILE}")
    else:
        typer.echo(text, nl=False)

"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import config


def shipped_config() -> Path:
    """The fleet.yaml inside the installed `config` package."""
    return Path(config.__file__).with_name("fleet.yaml")


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="FLEET_CONFIG",
        default_factory=shipped_config,
        show_default="the fleet.yaml that is shipped",
        help="The configuration file.",
    ),
]
OverlayOption = Annotated[
    list[Path],
    typer.Option("--overlay", "-o", help="A file laid over the configuration; may be repeated, the last one wins."),
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", "-s", help="A value over everything: `queues.email-send.concurrency=9`; may be repeated."),
]

"""`fleet dev`: the main job on this machine alone: Valkey, a mail catcher, a Node producer and the fleet.

With a Redis of your own (REDIS_URL, or `redis.url` in the configuration) it joins that one and is simply the fleet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import PydanticCustomError
from rich.console import Console

from config.errors import ConfigError
from config.loader import LoadedConfig, load
from config.quantities import parse_duration
from config.schema import FleetConfig, QueueConfig
from workers.broker.preflight import StartRefusedError
from workers.cli.last_exit import run_to_exit
from workers.cli.options import ConfigOption, OverlayOption, SetOption
from workers.cli.shutdown import Signals
from workers.dev import DevError
from workers.dev.board import Board, LiveBoard, board_for
from workers.dev.catcher import MailCatcher
from workers.dev.embedded import EmbeddedValkey
from workers.dev.local_run import Addresses, FleetPart, LocalRun
from workers.dev.ports import is_free
from workers.dev.producer import LARGEST_RATE, Producer
from workers.fleet import SelectionError, build_process, check_options, producer, select
from workers.ops.server import OpsServerError
from workers.runtime.supervision.supervisor import EXIT_REFUSED

EXIT_USAGE = 2
LARGEST_LOG = 10 * 1024 * 1024  # bytes; a larger one is put aside at the next start


@dataclass(frozen=True, slots=True)
class DevSettings:
    """What the command line says beside the configuration."""

    rate: float
    run_for_s: float | None
    data_dir: Path
    with_producer: bool


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except PydanticCustomError as error:
        raise typer.BadParameter(str(error)) from None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= LARGEST_RATE:  # false for nan, too
        raise typer.BadParameter(f"expected jobs a second, from 0 to {LARGEST_RATE:g}, found {text!r}")
    return rate


def dev(
    config: ConfigOption,
    overlay: OverlayOption = [],  # noqa: B006 - typer makes a new list each time
    set_: SetOption = [],  # noqa: B006
    rate: Annotated[
        float,
        typer.Option(parser=_rate, metavar="NUMBER", help="Jobs a second that are added; 0: the examples alone."),
    ] = 1.0,
    for_: Annotated[
        float | None, typer.Option("--for", parser=_duration, metavar="DURATION", help="End by itself after `20s`.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where data, mails and the log go. Defaults to the configuration's `redis.data_dir`."),
    ] = None,
    no_producer: Annotated[bool, typer.Option("--no-producer", help="Add no jobs; yours are waited for.")] = False,
) -> None:
    """Run everything on this machine and watch it: Valkey, a mail catcher, a Node producer and the fleet.

    With REDIS_URL set it joins that server, adds no jobs, catches no mails and is simply the fleet.

    Ctrl-C drains. The exit code is 0 when every running job was finished or handed back, else 1.
    It is 1 too when a part could not start, 2 for a wrong configuration, 78 for a Redis server that may lose jobs.
    """
    try:
        loaded = _load(config, overlay, set_)
        if issues := check_options(loaded):
            raise ConfigError(issues)
        settings = DevSettings(
            rate=rate,
            run_for_s=for_,
            data_dir=data_dir or Path(loaded.config.redis.data_dir),
            with_producer=not no_producer,
        )
        code = _run(loaded, settings)
    except (ConfigError, SelectionError) as error:
        raise _ended(error, EXIT_USAGE) from None
    except (DevError, OpsServerError) as error:
        raise _ended(error, 1) from None
    except StartRefusedError as error:
        raise _ended(error, EXIT_REFUSED) from None
    raise typer.Exit(code)


def _load(config: Path, overlays: list[Path], overrides: list[str]) -> LoadedConfig:
    """All on this machine, the configuration may ask for an SMTP_URL that is not set: the catcher takes its place."""
    try:
        return load(config, overlays=overlays, overrides=overrides)
    except ConfigError:
        stand_in = {**os.environ, "SMTP_URL": "smtp://127.0.0.1"}
        with suppress(ConfigError):
            loaded = load(config, overlays=overlays, overrides=overrides, env=stand_in)
            if loaded.config.redis.url == "embedded":
                return loaded
        raise


def _ended(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"fleet: {error}" if code != EXIT_USAGE else str(error), err=True)
    return typer.Exit(code)


def _run(loaded: LoadedConfig, settings: DevSettings) -> int:
    embedded = loaded.config.redis.url == "embedded"
    title = "Fleet, all on this machine" if embedded else "Fleet, with the Redis server of the configuration"
    board = board_for(Console(), title)
    with ExitStack() as stack:
        if embedded or (isinstance(board, LiveBoard) and sys.stderr.isatty()):
            board.fact("log", _log_to(settings.data_dir / "fleet.log", stack))
        return run_to_exit(_serve(loaded, settings, board, embedded=embedded))


def _log_to(path: Path, stack: ExitStack) -> Callable[[], str]:
    """Standard error goes to a file: the board says the same to people, and may hold the terminal."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.old"))
        # Appended, since another run in this directory may write it too.
        stack.enter_context(redirect_stderr(stack.enter_context(path.open("a", encoding="utf-8", buffering=1))))
    except OSError as error:
        raise DevError(f"can't write the log {path}: {error.strerror}") from error
    return lambda: str(path)


async def _serve(loaded: LoadedConfig, settings: DevSettings, board: Board, *, embedded: bool) -> int:
    config = loaded.config
    chosen = select(config)  # before any server is started for nothing

    def make_fleet(addresses: Addresses) -> FleetPart:
        local = localized(config, addresses, say=board.say) if embedded else config
        return build_process(local, name="dev", listeners=[board])

    def make_producer(url: str, queues: tuple[str, ...]) -> Producer:
        prefix = config.redis.prefix
        return Producer(
            url=url,
            prefix=prefix,
            queues=queues,
            rate=settings.rate,
            connect=lambda: producer(url, prefix),
            say=board.say,
        )

    run = LocalRun(
        board=board,
        make_fleet=make_fleet,
        redis=config.redis.url,
        valkey=EmbeddedValkey(settings.data_dir) if embedded else None,
        catcher=MailCatcher(settings.data_dir / "mails") if embedded else None,
        make_producer=make_producer if embedded and settings.with_producer else None,
        grace_s=max(config.pools[entry.pool].grace for entry in chosen.served.values()),
        run_for_s=settings.run_for_s,
    )
    signals = Signals(lambda _: run.end(), run.end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, run.end)  # the terminal was closed
    try:
        return 0 if await run.run() else 1
    finally:
        signals.close()


def localized(config: FleetConfig, addresses: Addresses, *, say: Callable[[str], None]) -> FleetConfig:
    """The configuration with the local servers in it.

    Whatever it says about mail, none leaves this machine: the producer invents the recipients.
    """
    http = config.http
    if http.port and not is_free(http.port, http.host):
        say(f"port {http.port} is in use, health and metrics get another")
        http = http.model_copy(update={"port": 0})
    redis = config.redis.model_copy(update={"url": addresses.redis})
    queues = {name: _mail_caught(entry, addresses) for name, entry in config.queues.items()}
    return config.model_copy(update={"redis": redis, "http": http, "queues": queues})


def _mail_caught(entry: QueueConfig, addresses: Addresses) -> QueueConfig:
    if "smtp_url" not in entry.task.options:
        return entry
    plain = {"smtp_url": addresses.smtp, "tls": "none", "username": "", "password": ""}
    options = {key: plain.get(key, value) for key, value in entry.task.options.items()}
    return entry.model_copy(update={"task": entry.task.model_copy(update={"options": options})})

"""`fleet run`: serve the queues, in production form."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from config.errors import ConfigError
from config.loader import LoadedConfig, load
from config.schema import FleetConfig
from workers.cli.hangup import Hangup, Reloader, ignored, survive
from workers.cli.last_exit import run_to_exit
from workers.cli.options import ConfigOption, OverlayOption, SetOption
from workers.cli.pool_process import command
from workers.cli.shutdown import EXIT_FAILED, serve
from workers.cli.standard_streams import StandardStreams
from workers.dev import DevError
from workers.dev.embedded import EmbeddedValkey
from workers.fleet import SelectionError, build_fleet, build_process, check_options
from workers.ops.fleet_service import FleetService
from workers.ops.server import OpsServerError

log = logging.getLogger(__name__)

Read: TypeAlias = Callable[[], LoadedConfig]
Localize: TypeAlias = Callable[[FleetConfig], FleetConfig]

EXIT_USAGE = 2


def run(
    config: ConfigOption,
    overlay: OverlayOption = [],  # noqa: B006 - typer makes a new list each time
    set_: SetOption = [],  # noqa: B006
    queues: Annotated[
        str | None, typer.Option("--queues", "-q", help="Serve these queues alone: `email-send,sms-message`.")
    ] = None,
    pool: Annotated[
        list[str] | None, typer.Option("--pool", "-p", help="Serve this pool's queues alone. May be repeated.")
    ] = None,
    single_process: Annotated[
        bool, typer.Option("--single-process", help="All queues in this one process, without a supervisor.")
    ] = False,
) -> None:
    """Serve the queues of the configuration until SIGTERM or Ctrl-C.

    The exit code is 0 when every running job was finished or handed back, 1 when one could not be or a part could
    not start, 2 for a configuration that can't be used, 78 for a Redis server that must not be used.

    On SIGHUP the configuration is read again, and processes whose part of it has changed are replaced one by one.
    """
    survive()
    read = partial(load, config, overlays=overlay, overrides=set_)
    try:
        loaded = read()
        if issues := check_options(loaded):
            raise ConfigError(issues)
        names = [name.strip() for name in queues.split(",") if name.strip()] if queues is not None else None
        code = run_to_exit(_run(loaded, read, pool or None, names, single_process))
    except (ConfigError, SelectionError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except (DevError, OpsServerError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    raise typer.Exit(code)


async def _run(
    loaded: LoadedConfig, read: Read, pools: list[str] | None, queues: list[str] | None, single: bool
) -> int:
    server: EmbeddedValkey | None = None
    if loaded.config.redis.url == "embedded":
        server = EmbeddedValkey(Path(loaded.config.redis.data_dir))
        await server.start()
    try:
        localize = partial(_localized, url=server.url if server is not None else None)
        config = localize(loaded.config)
        if single:
            fleet = build_process(config, pools=pools, queues=queues)
        else:
            fleet = build_fleet(config, command(), pools=pools, queues=queues)
        if server is not None:
            log.warning(
                "redis.url is `embedded`: serving a Valkey of this machine's own at %s, which no Node producer knows; "
                "set REDIS_URL to the server that Node uses",
                server.url,
            )
        return await _serve(fleet, config, read, localize)
    finally:
        if server is not None:
            await server.stop(by=asyncio.get_running_loop().time() + 10)


def _localized(config: FleetConfig, url: str | None) -> FleetConfig:
    """With the address of the embedded server, if that is what it asks for and there is one."""
    if url is None or config.redis.url != "embedded":
        return config
    return config.model_copy(update={"redis": config.redis.model_copy(update={"url": url})})


async def _serve(fleet: FleetService, config: FleetConfig, read: Read, localize: Localize) -> int:
    if fleet.skipped:
        log.warning("not served yet, since this version has no module for them: %s", ", ".join(fleet.skipped))
    pools = {config.queues[queue].pool for queue in fleet.served}
    reloader = Reloader(read, localize, fleet.reload) if fleet.reload is not None else None
    streams = StandardStreams() if reloader is None else None
    if reloader is not None:
        hangup = Hangup(reloader.ask)
    else:
        _warn_of_loops(config, pools)
        hangup = Hangup(ignored("with --single-process the configuration is read at start alone; restart it"))
    try:
        return await serve(fleet, max(config.pools[pool].grace for pool in pools))
    finally:
        hangup.close()
        if streams is not None:
            streams.close()
        if reloader is not None:
            await reloader.close()


def _warn_of_loops(config: FleetConfig, pools: set[str]) -> None:
    for pool in sorted(pools):
        if config.pools[pool].loop != "asyncio":
            log.warning("pools.%s.loop is for processes of its own: with --single-process asyncio's loop runs", pool)

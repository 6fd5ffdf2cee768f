"""`fleet run`: serve the queues, in production form."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from config.errors import ConfigError
from config.loader import LoadedConfig, load
from config.schema import FleetConfig
from workers.cli.last_exit import run_to_exit
from workers.cli.options import ConfigOption, OverlayOption, SetOption
from workers.cli.pool_process import command
from workers.cli.shutdown import EXIT_FAILED, serve
from workers.dev import DevError
from workers.dev.embedded import EmbeddedValkey
from workers.fleet import SelectionError, build_fleet, build_process, check_options
from workers.ops.fleet_service import FleetService
from workers.ops.server import OpsServerError

log = logging.getLogger(__name__)

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
    """
    try:
        loaded = load(config, overlays=overlay, overrides=set_)
        if issues := check_options(loaded):
            raise ConfigError(issues)
        names = [name.strip() for name in queues.split(",") if name.strip()] if queues is not None else None
        code = run_to_exit(_run(loaded, pool or None, names, single_process))
    except (ConfigError, SelectionError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except (DevError, OpsServerError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    raise typer.Exit(code)


async def _run(loaded: LoadedConfig, pools: list[str] | None, queues: list[str] | None, single: bool) -> int:
    config = loaded.config
    server: EmbeddedValkey | None = None
    if config.redis.url == "embedded":
        server = EmbeddedValkey(Path(config.redis.data_dir))
        await server.start()
        config = config.model_copy(update={"redis": config.redis.model_copy(update={"url": server.url})})
    try:
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
        return await _serve(fleet, config)
    finally:
        if server is not None:
            await server.stop(by=asyncio.get_running_loop().time() + 10)


async def _serve(fleet: FleetService, config: FleetConfig) -> int:
    if fleet.skipped:
        log.warning("not served yet, since this version has no module for them: %s", ", ".join(fleet.skipped))
    grace_s = max(config.pools[config.queues[queue].pool].grace for queue in fleet.served)
    return await serve(fleet, grace_s)

"""One command's conversation with whoever answers: where that is, how it ends, and what the exit code says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, cast

import typer

from config.errors import ConfigError
from config.loader import load
from config.schema import FleetConfig
from workers.broker.client import FleetRedis
from workers.broker.endpoint import EndpointError
from workers.broker.producer import JobAdder
from workers.cli.local_server import running_url
from workers.cli.options import ConfigOption, OverlayOption, SetOption
from workers.cli.output import complain
from workers.cli.queue_source import DirectSource, Source
from workers.dev import DevError
from workers.fleet.depths import admission
from workers.queue_service.actor import Actor
from workers.queue_service.adding import Adding
from workers.queue_service.errors import InvalidRequestError, QueueServiceError, QueueUnavailableError
from workers.queue_service.routes import Routes
from workers.queue_service.service import queue_service
from workers.runtime import settings
from workers.telemetry import logs

#: The exit codes. Refused: also where there is no such thing, and where nothing matched.
EXIT_DONE, EXIT_REFUSED, EXIT_CANT_ASK = 0, 1, 2

#: Asks, prints what it is told, and returns the exit code.
Work: TypeAlias = Callable[[Source], Awaitable[int]]


@dataclass(frozen=True, kw_only=True)
class Where:
    """The options that say where the queues are."""

    config: ConfigOption
    overlay: OverlayOption = field(default_factory=list)
    set_: SetOption = field(default_factory=list)


def ask(where: Where, work: Work) -> typer.Exit:
    """Do it, and return how the command ends. What goes wrong is one line on standard error."""
    return typer.Exit(code_of(partial(_ask, where, work)))


def code_of(conversation: Callable[[], Awaitable[int]]) -> int:
    """The exit code of a conversation."""

    async def held() -> int:
        return await conversation()

    try:
        return asyncio.run(held())
    except ConfigError as error:
        # One line for each mistake, with its place in a file.
        typer.echo(str(error), err=True)
    except (DevError, EndpointError, InvalidRequestError, QueueUnavailableError) as error:
        complain(str(error))
    except QueueServiceError as error:
        complain(str(error))
        return EXIT_REFUSED
    return EXIT_CANT_ASK


async def _ask(where: Where, work: Work) -> int:
    async with opened(where) as source:
        return await work(source)


@asynccontextmanager
async def opened(where: Where) -> AsyncIterator[Source]:
    """Who answers, for one `async with`.

    Raises:
        ConfigError, EndpointError: the configuration can't be used.
        DevError: it asks for a server of this machine's own, and none runs.
    """
    loaded = load(where.config, overlays=where.overlay, overrides=where.set_)
    config = await _localized(loaded.config)
    try:
        endpoint = settings.endpoint(config)
    except EndpointError as error:
        raise ConfigError([loaded.issue(error.path, error.problem)]) from None
    # The line of the audit, and warnings, go to standard error.
    logs.configure(config.log)
    client = endpoint.commands()
    service = queue_service(config, endpoint, cast(FleetRedis, client))
    try:
        yield DirectSource(service, _adding(config, client), Actor(user_name(), via="cli"))
    finally:
        await service.close()
        await client.aclose()


def _adding(config: FleetConfig, client: Any) -> Adding:
    limited = {queue: entry for queue, entry in config.queues.items() if entry.limits.depth or entry.limits.age}
    adder = JobAdder(client, config.redis.prefix)
    return Adding(adder, Routes.of(config), admission=admission(config, client, limited) if limited else None)


async def _localized(config: FleetConfig) -> FleetConfig:
    if config.redis.url != "embedded":
        return config
    url = await running_url(config.redis.data_dir)
    return config.model_copy(update={"redis": config.redis.model_copy(update={"url": url})})


def user_name() -> str:
    """The operating system's name of whoever runs the command, which variables can't change."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"

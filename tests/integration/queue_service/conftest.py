"""A queue service's parts on the run's server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest
from bullmq import Queue

from config.schema import FleetConfig
from workers.broker.endpoint import Endpoint
from workers.queue_service.acting import Acting
from workers.queue_service.looking import Looking
from workers.queue_service.report import Act

CONFIGURED = ("q", "other", "email-send", "llm-completion", "run-start")


class MakeActing(Protocol):
    def __call__(self, endpoint: Endpoint | None = ..., *, timeout_s: float = ..., **options: Any) -> Acting: ...


@pytest.fixture
def acts_told() -> list[Act]:
    """What the audit was told."""
    return []


@pytest.fixture
async def make_acting(endpoint: Endpoint, acts_told: list[Act]) -> AsyncIterator[MakeActing]:
    """Acting on clients of its own."""
    made: list[tuple[Looking, Any]] = []
    default = endpoint

    def make(endpoint: Endpoint | None = None, *, timeout_s: float = 15.0, **options: Any) -> Acting:
        where = endpoint or default
        entry = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}}
        redis = {"url": "redis://unused", "prefix": where.prefix, "command_timeout": timeout_s}
        config = FleetConfig.model_validate(
            {"redis": redis, "pools": {"p": {}}, "queues": dict.fromkeys(CONFIGURED, entry)}
        )
        client = where.commands()
        looking = Looking(where, client, CONFIGURED, timeout_s=timeout_s)
        made.append((looking, client))
        return Acting(config, client, looking, audit=acts_told.append, **options)

    yield make
    for looking, client in made:
        await looking.close()
        await client.aclose()


@pytest.fixture
def acting(make_acting: MakeActing) -> Acting:
    return make_acting()


class Queues:
    """BullMQ's queues of one test, by name."""

    def __init__(self, url: str, prefix: str) -> None:
        self._options = {"connection": url, "prefix": prefix}
        self.made: dict[str, Queue] = {}

    def __getitem__(self, name: str) -> Any:
        return self.made.setdefault(name, Queue(name, self._options))


@pytest.fixture
async def queues(redis_url: str, prefix: str) -> AsyncIterator[Queues]:
    queues = Queues(redis_url, prefix)
    yield queues
    for queue in queues.made.values():
        await queue.close()


@pytest.fixture
def queue(queues: Queues) -> Any:
    return queues["q"]

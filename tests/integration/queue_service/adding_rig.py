"""Adding on clients of its own, and what is in Redis afterwards."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from config.schema import FleetConfig
from workers.broker import producer_span
from workers.broker.endpoint import Endpoint
from workers.broker.producer import JobAdder
from workers.broker.stats import StatsReader
from workers.queue_service.adding import Adding
from workers.queue_service.admission import Admission, Limits
from workers.queue_service.routes import Routes

#: Queues, and what they are besides plain ones.
QUEUES: dict[str, dict[str, Any]] = {
    "email-send": {},
    "sms-message": {},
    "notification-create": {},
    "llm-completion": {"accepts": {"llm-completion": {}, "swarm-execution": {}}},
    "kids": {},
    "parents": {},
}


def config(**more: dict[str, Any]) -> FleetConfig:
    base = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s", "retry": {"attempts": 2, "backoff": "50ms x2"}}}
    queues = {name: {**base, **entry, **more.get(name.replace("-", "_"), {})} for name, entry in QUEUES.items()}
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": queues})


@asynccontextmanager
async def adding(endpoint: Endpoint, **more: Any) -> AsyncIterator[Adding]:
    """Yield it.

    Args:
        more: further settings of queues, by name with underscores.
    """
    client, settings = endpoint.commands(), config(**more)
    limits = {name: Limits(depth=entry.limits.depth, age_s=entry.limits.age) for name, entry in settings.queues.items()}
    admission = Admission(StatsReader(client, endpoint.prefix), limits, timeout_s=endpoint.command_timeout_s)
    yield Adding(JobAdder(client, endpoint.prefix), Routes.of(settings), admission=admission)
    await admission.close()
    await client.aclose()


def mail(job_id: str = "a", **fields: Any) -> dict[str, Any]:
    """The data of a mail."""
    return {"type": "email-send", "id": job_id, "to": ["a@example.com"], "subject": "s", "text": "t", **fields}


def sms(job_id: str = "a") -> dict[str, Any]:
    return {"type": "sms-message", "id": job_id, "to": ["+15555550123"], "body": "b"}


async def stored(redis: Redis, key: str) -> dict[str, Any]:
    """A job's row, with its JSON read."""
    row: Any = await redis.hgetall(key)
    return {k: json.loads(v) if k in ("data", "opts", "parent") else v for k, v in row.items()}


@contextmanager
def exported(monkeypatch: Any) -> Iterator[InMemorySpanExporter]:
    """What the producer's spans were."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with monkeypatch.context() as patched:
        patched.setattr(producer_span, "_tracer", provider.get_tracer("fleet.producer"))
        yield exporter

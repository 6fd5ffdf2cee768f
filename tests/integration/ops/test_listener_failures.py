"""A listener of a fleet that fails is counted where an operator looks, and costs no job."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bullmq import Queue
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from config.loader import load
from tests.conftest import wait_until
from workers.broker.events import Event
from workers.cli.options import shipped_config
from workers.dev.catcher import MailCatcher
from workers.fleet import build_process
from workers.ops.fleet_service import FleetService

MAIL = {"type": "email-send", "id": "m", "to": ["a@example.com"], "subject": "S", "text": "T"}


class Broken:
    """A listener with a defect."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self, event: Event) -> None:
        self.told += 1
        raise ZeroDivisionError(f"at {type(event).__name__}")


@pytest.fixture
async def mails(tmp_path: Path) -> AsyncIterator[MailCatcher]:
    catcher = MailCatcher(tmp_path / "mails")
    await catcher.start()
    yield catcher
    await catcher.stop(by=time.monotonic() + 2)


@pytest.fixture
def broken() -> Broken:
    return Broken()


@pytest.fixture
async def fleet(
    restored_logging: None, redis_url: str, prefix: str, mails: MailCatcher, broken: Broken
) -> AsyncIterator[FleetService]:
    """Serves email-send in this process, and tells the broken listener."""
    env = {"REDIS_URL": redis_url, "SMTP_URL": mails.url, "SITE_EMAIL_ALIAS": "hi@example.com"}
    overrides = [f"redis.prefix={prefix}", "http.port=0", "tracing.enabled=false"]
    service = build_process(load(shipped_config(), env=env, overrides=overrides).config, listeners=[broken])
    await service.start()
    yield service
    await service.stop(by=time.monotonic() + 5)


async def failures(fleet: FleetService) -> float:
    """What /metrics says."""
    async with aiohttp.ClientSession() as http, http.get(f"{fleet.url}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        samples = {sample.name: sample.value for family in families for sample in family.samples}
        return samples["fleet_listener_failures_total"]


async def test_failures_of_a_listener_are_counted_in_the_metrics_and_cost_no_job(
    fleet: FleetService, broken: Broken, redis: Redis, redis_url: str, prefix: str, mails: MailCatcher
) -> None:
    queue = Queue("email-send", {"connection": redis_url, "prefix": prefix})
    for _ in range(3):
        await queue.add("email-send", MAIL)
    await queue.close()

    async def all_completed() -> Any:
        return await redis.zcard(f"{prefix}:email-send:completed") == 3

    await wait_until(all_completed)
    assert mails.count == 3
    assert broken.told >= 6, "a start and an end of each job"

    async def all_counted() -> Any:
        return await failures(fleet) == broken.told

    await wait_until(all_counted, every_s=0.05)
    assert fleet.health().ok

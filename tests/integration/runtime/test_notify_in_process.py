"""`on_failed: notify` in fleet.yaml, all the way: a mail that can't be sent becomes a note for its user."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from config.loader import load
from tests.conftest import wait_until
from tests.integration.runtime.process_rig import MAIL, NOTES, jobs_of
from workers.broker.events import Event, JobFailed, WorkerError
from workers.cli.options import shipped_config
from workers.fleet import build_process, producer
from workers.ops.fleet_service import FleetService


class Running:
    """A process with what it told."""

    def __init__(self, url: str, prefix: str, on_failed: str) -> None:
        overrides = [
            f"redis.prefix={prefix}",
            "http.port=0",
            f"queues.email-send.task.on_failed={on_failed}",
        ]
        env = {"REDIS_URL": url, "SITE_EMAIL_ALIAS": "hi@example.com", "OTEL_SDK_DISABLED": "true"}
        config = load(shipped_config(), env=env, overrides=overrides).config
        self.on_failed = on_failed
        self.events: list[Event] = []
        self.service: FleetService = build_process(config, queues=["email-send"], listeners=[self.events.append])

    async def stop(self) -> None:
        await self.service.stop(by=time.monotonic() + 5)


@pytest.fixture
async def running(
    redis_url: str, prefix: str, restored_logging: None, request: pytest.FixtureRequest
) -> AsyncIterator[Running]:
    running = Running(redis_url, prefix, request.param)
    await running.service.start()
    yield running
    await running.stop()


@pytest.mark.parametrize("running", ["notify", "none"], indirect=True)
async def test_mail_that_can_not_be_sent_is_told_to_its_user_where_yaml_says_so(
    running: Running, redis: Redis, redis_url: str, prefix: str
) -> None:
    async with producer(redis_url, prefix) as add:
        await add("email-send", "email-send", {**MAIL, "to": ["nobody"]}, {})
    await wait_until(lambda: [e for e in running.events if isinstance(e, JobFailed)])
    await running.stop()
    notes = await jobs_of(redis, prefix, NOTES)
    told = [note["data"]["userId"] for note in notes]
    assert told == (["614"] if running.on_failed == "notify" else [])
    assert [e for e in running.events if isinstance(e, WorkerError)] == []

"""A mail server that is down, silent or breaks off: the mail is tried again and delivered, and no other one suffers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.acceptance.conftest import Jobs, Serve, Served, mail
from tests.acceptance.mail_host import CLOSE, CLOSE_MIDWAY, HOLD


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    quick = {"options.timeout": "500ms", "retry.backoff": "100ms", "retry.jitter": "0%", "retry.attempts": "3"}
    settings = (part for key, value in quick.items() for part in ("--set", f"queues.email-send.task.{key}={value}"))
    return serve(*settings)


@pytest.fixture
async def jobs(served: Served, redis: Redis, redis_url: str) -> AsyncIterator[Jobs]:
    await served.fleet.ready()
    async with Jobs(redis, redis_url, served.prefix) as jobs:
        yield jobs
    assert served.fleet.is_ready
    assert "Traceback" not in served.fleet.text


def _readers(count: int) -> list[str]:
    return [f"{uuid.uuid4().hex}@example.com" for _ in range(count)]


def _retries(served: Served, *jobs: str) -> list[str]:
    """Why attempts at these jobs failed that were followed by another."""
    records = [each for each in served.fleet.records(level="warning") if each.get("job_id") in jobs]
    assert all(record["event"] == "job failed, retrying" for record in records)
    return [record["reason"] for record in records]


async def test_mail_waits_for_a_server_that_is_down_and_fails_with_its_name_when_it_stays_down(
    served: Served, jobs: Jobs
) -> None:
    (reader,) = _readers(1)
    refused = f"SMTP server 127.0.0.1:{served.mail_host.port}, connect: Connection refused"
    served.mail_host.stop()
    try:
        lost = await jobs.add(mail())
        await jobs.reach("failed", lost)
        assert (await jobs.row(lost))["failedReason"] == refused
        assert (await jobs.row(lost))["atm"] == "3"
        assert _retries(served, lost) == [refused] * 2
        assert served.fleet.is_ready  # a mail server is no reason to take no jobs

        saved = await jobs.add(mail(reader))
        await jobs.reach("delayed", saved)
    finally:
        served.mail_host.start()
    await jobs.reach("completed", saved)
    assert served.mail_host.recipients().count(reader) == 1
    assert (await jobs.row(saved))["atm"] in ("2", "3")


async def test_connection_that_is_told_nothing_costs_one_attempt_of_one_mail(served: Served, jobs: Jobs) -> None:
    readers = _readers(20)
    served.mail_host.silent_connections = 1
    ids = [await jobs.add(mail(reader)) for reader in readers]
    await jobs.reach("completed", *ids)
    assert served.mail_host.silent_connections == 0
    (reason,) = _retries(served, *ids)
    assert reason == f"SMTP server 127.0.0.1:{served.mail_host.port}, connect: no answer in time"
    received = served.mail_host.recipients()
    assert all(received.count(reader) == 1 for reader in readers)


@pytest.mark.parametrize(
    ("answer", "fault", "arrivals"),
    [
        (CLOSE_MIDWAY, "message: the connection was lost", 1),
        (CLOSE, "message: the connection was lost", 2),
        (HOLD, "message: no answer in time", 2),
        ("421 4.3.2 going down", "message: 421 4.3.2 going down", 2),
    ],
    ids=["closes_midway", "closes_before_the_answer", "never_answers", "goes_down"],
)
async def test_mail_cut_off_in_the_middle_is_sent_again_under_the_same_id(
    served: Served, jobs: Jobs, answer: str, fault: str, arrivals: int
) -> None:
    victim, *readers = _readers(11)
    host = served.mail_host
    host.answers[victim].append(answer)
    ids = [await jobs.add(mail(reader)) for reader in (victim, *readers)]
    await jobs.reach("completed", *ids)
    (reason,) = _retries(served, *ids)
    assert reason.startswith(f"SMTP server 127.0.0.1:{host.port}, {fault}")
    assert ("the mail may have been delivered" in reason) == (answer in (CLOSE_MIDWAY, CLOSE, HOLD))
    received = host.recipients()
    assert all(received.count(reader) == 1 for reader in (victim, *readers))
    assert host.begun.count(victim) == arrivals
    (message,) = host.messages_to(victim)
    assert message["Message-ID"] == (await jobs.result(ids[0]))["info"]["messageId"]

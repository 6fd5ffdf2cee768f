"""`fleet run` from end to end: a producer adds jobs, mails arrive, the jobs hold their results; a signal ends it."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.conftest import CONFIDENTIAL, Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.acceptance.mail_host import HOLD, MailHost
from tests.conftest import wait_until

ALL = {"queue": "email-send", "task_type": "email-send"}


async def test_single_process_delivers_counts_and_drains_on_sigterm(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    fleet = await start_fleet("--single-process", "--set", "queues.email-send.task.retry.backoff=100ms").ready()
    mail_host.refuse["gone@example.com"] = "550 5.1.1 no such user"
    mail_host.answers["later@example.com"].append("451 4.7.1 come back later")

    ids = [await jobs.add(mail(f"reader{n}@example.com")) for n in range(20)]
    gone = await jobs.add(mail("gone@example.com"))
    later = await jobs.add(mail("later@example.com"))
    await jobs.reach("completed", *ids, later)
    await jobs.reach("failed", gone)

    assert sorted(mail_host.recipients()) == sorted(
        [*(f"reader{n}@example.com" for n in range(20)), "later@example.com"]
    )
    result = await jobs.result(ids[0])
    assert result["success"] is True
    assert result["info"]["accepted"] == ["reader0@example.com"]
    (message,) = mail_host.messages_to("reader0@example.com")
    assert CONFIDENTIAL in str(message["Subject"])
    assert result["info"]["messageId"] == message["Message-ID"]
    _assert_counted(fleet, completed=21, failed=1, retried=1)
    assert fleet.metric("bullmq_worker_concurrency", queue="email-send") == 5

    assert await fleet.terminate(signal.SIGTERM) == 0
    _assert_calm(fleet, failed=1, retried=1)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_supervised_processes_share_the_work_and_drain_on_sigint(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, loop: str
) -> None:
    pool = ["--set", "pools.communication.processes=2", "--set", f"pools.communication.loop={loop}"]
    fleet = await start_fleet(*pool).ready()
    assert len(fleet.pool_processes()) == 2
    _, checks = fleet.probe("readyz")
    assert {"communication-0.email-send", "communication-1.email-send"} <= set(checks)

    # Each process holds five mails, so that neither can take them all.
    held = [f"held{n}@example.com" for n in range(10)]
    for recipient in held:
        mail_host.answers[recipient].append(HOLD)
    ids = [await jobs.add(mail(recipient)) for recipient in held]
    await wait_until(lambda: len(mail_host.begun) == 10)
    assert fleet.metric("bullmq_worker_active_jobs", queue="email-send") == 10
    mail_host.release()
    ids += [await jobs.add(mail(f"reader{n}@example.com")) for n in range(10)]
    await jobs.reach("completed", *ids)

    assert sorted(mail_host.recipients()) == sorted([*held, *(f"reader{n}@example.com" for n in range(10))])
    workers = {(await jobs.row(job_id))["pb"].partition("@")[0] for job_id in ids}
    assert workers == {"communication-0", "communication-1"}
    _assert_counted(fleet, completed=20, failed=0, retried=0)
    assert fleet.metric("bullmq_worker_concurrency", queue="email-send") == 10

    assert await fleet.terminate(signal.SIGINT) == 0
    _assert_calm(fleet)


async def test_nothing_is_lost_or_sent_twice_when_a_fleet_is_replaced_in_full_run(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    """As in a rolling deployment: the next fleet comes up while the first one drains."""
    readers = [f"reader{n}@example.com" for n in range(300)]
    first = await start_fleet("--single-process").ready()
    second = start_fleet("--single-process")
    ids = [await jobs.add(mail(reader)) for reader in readers]
    await wait_until(lambda: len(mail_host.received) >= 20)

    assert await first.terminate() == 0
    assert len(mail_host.received) < 300  # it was stopped in the middle
    await second.ready()
    await jobs.reach("completed", *ids)

    assert sorted(mail_host.recipients()) == sorted(readers)
    assert await second.terminate() == 0


def _assert_counted(fleet: FleetCommand, *, completed: int, failed: int, retried: int) -> None:
    wanted = {"completed": completed, "failed": failed, "retried": retried, "delayed": 0, "handed_back": 0, "lost": 0}
    counted = {name: fleet.metric("bullmq_worker_jobs_total", outcome=name, **ALL) for name in wanted}
    assert counted == pytest.approx(wanted)
    assert fleet.metric("bullmq_job_process_duration_seconds_count", **ALL) == completed + failed + retried
    assert fleet.metric("bullmq_job_wait_duration_seconds_count", **ALL) == completed + failed
    assert fleet.metric("bullmq_worker_active_jobs", queue="email-send") == 0
    assert fleet.metric("bullmq_worker_errors_total", queue="email-send") is None


def _assert_calm(fleet: FleetCommand, *, failed: int = 0, retried: int = 0) -> None:
    """The log is JSON throughout, holds nobody's mail, and complains about nothing but these jobs."""
    assert fleet.out == []
    assert len(fleet.records()) == len(fleet.err)
    assert [record["event"] for record in fleet.records(level="error")] == ["job failed"] * failed
    warnings = [
        event for record in fleet.records(level="warning") if "not served yet" not in (event := record["event"])
    ]
    assert warnings == ["job failed, retrying"] * retried
    assert CONFIDENTIAL not in fleet.text

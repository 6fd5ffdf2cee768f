"""A signal in the middle of a job: it is finished within the grace, else handed back, and never lost or sent twice."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.acceptance.mail_host import HOLD, MailHost
from tests.conftest import wait_until

MODES = pytest.mark.parametrize("mode", [("--single-process",), ()], ids=["single", "supervised"])
#: Short enough to wait for; a part of it is kept for writing the hand-back and closing connections.
SHORT_GRACE = ("--set", "pools.communication.grace=2s")


async def _in_the_middle(jobs: Jobs, mail_host: MailHost, fleet: FleetCommand) -> str:
    """A job whose mail has been sent and not yet answered."""
    mail_host.answers["held@example.com"].append(HOLD)
    await fleet.ready()
    job = await jobs.add(mail("held@example.com"), attempts=3)
    await wait_until(lambda: mail_host.begun == ["held@example.com"])
    return job


async def _unspent(jobs: Jobs, job: str) -> None:
    """Interrupted is not failed: the job stands in front as if it had never been started."""
    assert await jobs.state(job) == "waiting"
    row = await jobs.row(job)
    assert (row.get("ats"), row.get("atm", "0"), row.get("stc", "0")) == ("0", "0", "0")
    assert "failedReason" not in row


@MODES
async def test_job_longer_than_the_grace_is_handed_back_unspent_and_the_next_fleet_delivers_it(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, mode: tuple[str, ...]
) -> None:
    fleet = start_fleet(*mode, *SHORT_GRACE)
    job = await _in_the_middle(jobs, mail_host, fleet)

    assert await fleet.terminate() == 0
    await _unspent(jobs, job)
    assert fleet.said("^job handed back$")
    assert mail_host.received == []

    following = await start_fleet("--single-process").ready()
    await jobs.reach("completed", job)
    assert mail_host.recipients() == ["held@example.com"]
    row = await jobs.row(job)
    assert (row["ats"], row["atm"]) == ("1", "1")
    assert await following.terminate() == 0


@MODES
async def test_job_shorter_than_the_grace_is_finished_and_no_further_one_is_taken(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, mode: tuple[str, ...]
) -> None:
    fleet = start_fleet(*mode)
    job = await _in_the_middle(jobs, mail_host, fleet)
    fleet.send(signal.SIGTERM)
    await wait_until(lambda: fleet.probe("readyz")[0] is False)
    assert fleet.probe("livez")[0] is True
    late = await jobs.add(mail("late@example.com"))

    mail_host.release()

    assert await fleet.exit_code() == 0
    assert await jobs.state(job) == "completed"
    assert mail_host.recipients() == ["held@example.com"]
    assert await jobs.state(late) == "waiting"


@MODES
async def test_second_signal_hands_back_without_waiting_for_the_grace(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost, mode: tuple[str, ...]
) -> None:
    fleet = start_fleet(*mode, "--set", "pools.communication.grace=10m")
    job = await _in_the_middle(jobs, mail_host, fleet)

    fleet.send(signal.SIGTERM)
    await fleet.says("SIGTERM: draining")
    fleet.send(signal.SIGTERM)

    assert await fleet.exit_code() == 0
    await _unspent(jobs, job)


@MODES
async def test_signals_without_end_change_nothing_about_a_clean_exit(
    start_fleet: StartFleet, jobs: Jobs, mode: tuple[str, ...]
) -> None:
    fleet = await start_fleet(*mode).ready()
    await jobs.reach("completed", await jobs.add(mail()))

    def ended() -> bool:
        fleet.send(signal.SIGTERM)
        return fleet.has_ended

    await wait_until(ended, every_s=0.002)
    assert await fleet.exit_code() == 0

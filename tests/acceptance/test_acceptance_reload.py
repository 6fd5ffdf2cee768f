"""SIGHUP: the configuration is read again, and no mail notices."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.fleet_command import FleetCommand
from tests.acceptance.mail_host import HOLD, MailHost
from tests.conftest import wait_until

MODULE = Path(__file__).parent / "modules" / "kills_its_process.py"


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    path = tmp_path / "local.yaml"
    path.write_text("queues: {email-send: {concurrency: 4}}\n")
    return path


def write(path: Path, text: str) -> None:
    """Replaced as a whole, as editors and deployments do it."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.replace(path)


def pids(fleet: FleetCommand) -> set[int]:
    return {process.pid for process in fleet.pool_processes()}


async def looked(start_command: StartFleet, fleet: FleetCommand, *options: str) -> tuple[int, FleetCommand]:
    command = start_command("workers", "--url", fleet.url, *options)
    return await command.exit_code(), command


async def test_changed_queue_reaches_its_processes_one_by_one_and_every_mail_its_reader(
    start_fleet: StartFleet, start_command: StartFleet, jobs: Jobs, mail_host: MailHost, overlay: Path
) -> None:
    fleet = await start_fleet("--overlay", str(overlay), "--set", "pools.communication.processes=2").ready()
    before = pids(fleet)
    assert fleet.metric("bullmq_worker_concurrency", queue="email-send") == 8
    added: list[str] = []
    flowing = True

    async def flow() -> None:
        while flowing:
            added.append(await jobs.add(mail()))
            await asyncio.sleep(0.03)

    flow_task = asyncio.create_task(flow())
    write(overlay, "queues: {email-send: {concurrency: 7}}\nhttp: {host: 0.0.0.0}\n")
    fleet.send(signal.SIGHUP)
    (said,) = await fleet.says("^reload applied: ")
    assert said == "reload applied: replaced: communication-0, communication-1"
    assert fleet.said("take effect at the next start only: http.host$")
    await wait_until(lambda: len(pids(fleet)) == 2 and not pids(fleet) & before, timeout_s=30)
    flowing = False
    await flow_task
    await jobs.reach("completed", *added)
    assert len(mail_host.recipients()) == len(set(mail_host.recipients())) == len(added)
    await wait_until(lambda: fleet.metric("bullmq_worker_concurrency", queue="email-send") == 14)
    assert fleet.metric("fleet_config_reload_total", result="applied") == 1
    assert fleet.metric("fleet_process_recycles_total", pool="communication", reason="config") == 2
    assert fleet.records(level="error") == []
    assert not fleet.said("died")

    # What is wrong is said, and changes nothing.
    between = pids(fleet)
    write(overlay, "queues: {email-send: {concurrency: many}}\n")
    fleet.send(signal.SIGHUP)
    (refused,) = await fleet.says("^reload refused")
    assert "local.yaml:1:23: queues.email-send.concurrency: expected an integer" in refused
    assert fleet.metric("fleet_config_reload_total", result="refused") == 1
    code, shown = await looked(start_command, fleet)
    assert code == 0
    assert any("configuration refused" in line and "queues.email-send.concurrency" in line for line in shown.out)
    assert pids(fleet) == between
    assert await fleet.terminate() == 0


async def test_pool_that_does_not_start_with_it_keeps_what_it_had(
    start_fleet: StartFleet, jobs: Jobs, overlay: Path, tmp_path: Path
) -> None:
    """A module that the supervisor could load, and its process can't: changed on the disk meanwhile."""
    module = tmp_path / "late_defect.py"
    good = MODULE.read_text()
    write(module, good)
    entry = "queues: {risky: {pool: communication, module: late_defect, concurrency: %d, task: {timeout: 9s}}}\n"
    write(overlay, entry % 1)
    fleet = await start_fleet("--overlay", str(overlay), env={"PYTHONPATH": str(tmp_path)}).ready()
    before = pids(fleet)
    write(module, "raise RuntimeError('half a deployment')\n")
    write(overlay, entry % 2)
    fleet.send(signal.SIGHUP)
    await fleet.says("^reload: pool communication keeps its former configuration")
    await wait_until(lambda: pids(fleet) == before)
    assert fleet.is_ready
    assert fleet.metric("fleet_config_reload_total", result="failed") == 1
    job = await jobs.add(mail())
    await jobs.reach("completed", job)
    write(module, good)
    fleet.send(signal.SIGHUP)
    await wait_until(lambda: pids(fleet) and not pids(fleet) & before, timeout_s=30)
    assert await fleet.terminate() == 0


async def test_pools_follow_the_number_of_their_processes(start_fleet: StartFleet, overlay: Path) -> None:
    fleet = await start_fleet("--overlay", str(overlay)).ready()
    (first,) = pids(fleet)
    write(overlay, "pools: {communication: {processes: 3}}\nqueues: {email-send: {concurrency: 4}}\n")
    fleet.send(signal.SIGHUP)
    await wait_until(lambda: len(pids(fleet)) == 3)
    assert first in pids(fleet)
    write(overlay, "pools: {communication: {processes: 1}}\nqueues: {email-send: {concurrency: 4}}\n")
    fleet.send(signal.SIGHUP)
    await wait_until(lambda: pids(fleet) == {first}, timeout_s=30)
    assert await fleet.terminate() == 0
    assert not fleet.said("died")


async def test_single_process_ignores_it_and_says_so(start_fleet: StartFleet, jobs: Jobs) -> None:
    fleet = await start_fleet("--single-process").ready()
    fleet.send(signal.SIGHUP)
    await fleet.says("^SIGHUP is ignored: with --single-process")
    job = await jobs.add(mail())
    await jobs.reach("completed", job)
    assert await fleet.terminate() == 0


async def test_process_of_a_pool_ignores_it_and_says_so(start_fleet: StartFleet) -> None:
    fleet = await start_fleet().ready()
    (process,) = fleet.pool_processes()
    process.send_signal(signal.SIGHUP)
    await fleet.says("^SIGHUP is ignored: this is one process of a pool")
    assert fleet.is_ready
    assert await fleet.terminate() == 0


async def test_workers_are_shown_with_what_they_do(
    start_fleet: StartFleet, start_command: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    mail_host.answers["held@example.com"].append(HOLD)
    fleet = await start_fleet().ready()
    job = await jobs.add(mail("held@example.com"))
    await wait_until(lambda: "held@example.com" in mail_host.begun)
    (process,) = fleet.pool_processes()

    def named() -> bool:
        status, body = fleet.get("/workers")
        (seen,) = json.loads(body)["processes"]
        assert (status, seen["name"], seen["report"]["pid"]) == (200, "communication-0", process.pid)
        return [running["job_id"] for running in seen["report"]["running"]] == [job]

    await wait_until(named)
    code, shown = await looked(start_command, fleet)
    assert code == 0
    assert any(line.split()[:4] == ["communication-0", "email-send", "email-send", job] for line in shown.out)
    code, shown = await looked(start_command, fleet, "--json")
    assert code == 0
    assert json.loads(shown.out[0])["mode"] == "supervisor"
    process.kill()
    await wait_until(lambda: json.loads(fleet.get("/workers")[1])["processes"][0]["last_death"] == "SIGKILL")
    mail_host.release()
    await jobs.reach("completed", job)
    url = fleet.url
    assert await fleet.terminate() == 0
    gone = start_command("workers", "--url", url)
    assert await gone.exit_code() == 2
    assert gone.err[0].startswith(f"fleet workers: no fleet answers at {url}/workers")

"""The command line around `run`: help, the choice of queues, the configuration in force, whose packages these are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Jobs, StartFleet, mail
from tests.acceptance.mail_host import MailHost

SKIPPED = {
    "push-notification",
    "sms-message",
    "notification-create",
    "swarm-execution",
    "llm-completion",
    "run-start",
    "sandbox-execution",
    "export-user-data",
    "import-user-data",
}


async def test_help_names_every_command_and_option(start_command: StartFleet) -> None:
    fleet, run, config = (start_command(*words, "--help") for words in ((), ("run",), ("config",)))
    pages = {}
    for name, command in (("fleet", fleet), ("run", run), ("config", config)):
        assert await command.exit_code() == 0
        assert command.err == []
        pages[name] = "\n".join(command.out)
    assert all(word in pages["fleet"] for word in ("run", "dev", "config"))
    options = ("--config", "--overlay", "--set", "--queues", "--pool", "--single-process", "FLEET_CONFIG")
    assert all(option in pages["run"] for option in options)
    assert all(command in pages["config"] for command in ("check", "show", "explain", "schema"))


async def test_queues_without_a_module_are_named_at_start_and_the_others_served(
    start_fleet: StartFleet, jobs: Jobs, mail_host: MailHost
) -> None:
    everything = start_fleet("--single-process")
    pool = start_fleet("--single-process", "--pool", "communication")
    queue = start_fleet("--queues", "email-send,sms-message")
    expected = {
        everything: SKIPPED,
        pool: {"push-notification", "sms-message", "notification-create"},
        queue: {"sms-message"},
    }
    for fleet, skipped in expected.items():
        await fleet.ready()
        (said,) = fleet.said("not served yet, since this version has no module for them: ")
        assert set(said.partition(": ")[2].split(", ")) == skipped
        job = await jobs.add(mail())
        await jobs.reach("completed", job)
        assert await fleet.terminate() == 0
    assert len(mail_host.received) == 3


async def test_configuration_in_force_is_shown_with_origins_and_without_secrets(start_command: StartFleet) -> None:
    env = {
        "SITE_EMAIL_USERNAME": "hi@example.com",
        "SITE_EMAIL_PASSWORD": "hunter2",
        "REDIS_URL": "redis://me:hunter2@redis.example.com/0",
        "FLEET__QUEUES__EMAIL_SEND__CONCURRENCY": "9",
    }
    check = start_command("config", "check", env=env)
    show = start_command("config", "show", "--resolved", "--json", env=env)
    explain = start_command("config", "explain", "queues.email-send", env=env)
    for command in (check, show, explain):
        assert await command.exit_code() == 0
        assert command.err == []
        assert "hunter2" not in "\n".join(command.out)
    assert check.out[0].endswith("fleet.yaml: correct (queues: 10, pools: 5)")
    shown = json.loads("\n".join(show.out))
    assert shown["queues"]["email-send"]["concurrency"] == 9
    assert shown["queues"]["email-send"]["task"]["options"]["username"] == "hi@example.com"
    assert "redis.example.com" in shown["redis"]["url"]
    explained = {line.split()[0]: line.split()[1:] for line in explain.out}
    assert explained["queues.email-send.concurrency"] == ["9", "env", "FLEET__QUEUES__EMAIL_SEND__CONCURRENCY"]
    assert explained["queues.email-send.lock"] == ["1m", "default"]
    assert explained["queues.email-send.task.options.password"][-2:] == ["from", "${SITE_EMAIL_PASSWORD}"]


@pytest.mark.parametrize("name", ["config", "tasks", "registry"])
async def test_strangers_package_of_our_name_is_named_with_the_fix(
    start_command: StartFleet, tmp_path: Path, name: str
) -> None:
    """`python -m` puts the working directory first, so a package there wins over the installed one."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger was imported')\n")
    command = start_command("run", cwd=tmp_path)
    assert await command.exit_code() == 1
    assert command.err == [
        f"fleet: these packages are not Fleet's: {name} is {tmp_path / name}. "
        "Install Fleet into an environment of its own, and start it outside of folders with such names."
    ]


async def test_processes_of_a_pool_import_no_package_from_the_working_directory(
    start_fleet: StartFleet, jobs: Jobs, tmp_path: Path
) -> None:
    """With the console script the supervisor itself doesn't; its children must not either."""
    for name in ("config", "tasks", "registry", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger was imported')\n")
    fleet = await start_fleet(cwd=tmp_path, script=Path(sys.executable).with_name("fleet")).ready()
    job = await jobs.add(mail())
    await jobs.reach("completed", job)
    assert await fleet.terminate() == 0
    assert "stranger" not in fleet.text

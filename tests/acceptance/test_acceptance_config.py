"""A configuration or command line that cannot be used: a line for each thing to correct, exit code 2, nothing run."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from redis.asyncio import Redis

from tests.acceptance.conftest import StartFleet
from tests.acceptance.fleet_command import FleetCommand
from tests.conftest import Server

WRONG = """\
redis: {url: "${NOT_SET}", prefix: bull}
pools:
  communication: {processes: two, graze: 30s}
queues:
  email-send:
    pool: communication
    concurrency: 5
    concurrency: 6
    task: {timeout: fast, options: {smtp_url: "smtp://me:hunter2@mail.example.com"}}
"""
WRONG_LINES = [
    "wrong.yaml:1:9: redis.url: ${NOT_SET} is not set; set NOT_SET or NOT_SET_FILE, or give a default: ${NOT_SET:-…}",
    "wrong.yaml:3:19: pools.communication.processes: expected an integer from 1 to 256 or auto, found 'two'",
    "wrong.yaml:3:35: pools.communication.graze: unknown key; did you mean 'grace'?",
    "wrong.yaml:8:5: queues.email-send.concurrency: duplicate key; first written at line 7",
    "wrong.yaml:9:12: queues.email-send.task.timeout: expected a duration like 30s, 5m or 1h30m, found 'fast'",
]
UNREADABLE = {
    "latin.yaml": (b'redis:\n  prefix: "caf\xe9"\n', r":2:15: expected UTF-8 text$"),
    "tab.yaml": (b"redis:\n\tprefix: bull\n", r":2:1: not YAML: a tab can't indent YAML; use spaces$"),
    "cut.yaml": (b"queues: [a\n", r":2:1: not YAML: .*expected ',' or '\]'"),
    "empty.yaml": (b"", r": expected a mapping of settings, found an empty file$"),
    "large.yaml": (b"#" * 2**20 + b"\nredis: {}\n", r": expected a file of at most 1 MB, found a larger one$"),
}


async def _refused(command: FleetCommand) -> list[str]:
    """What it says on standard error, when it has ended with 2 and done nothing else."""
    assert await command.exit_code() == 2
    assert command.out == []
    assert "Traceback" not in command.text
    assert "hunter2" not in command.text
    return command.err


async def test_everything_wrong_in_a_file_is_told_at_once_with_line_and_key(
    start_command: StartFleet, tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    run, check = (
        start_command(*command, "--config", "wrong.yaml", cwd=tmp_path) for command in (("run",), ("config", "check"))
    )
    assert await _refused(run) == WRONG_LINES
    assert await _refused(check) == WRONG_LINES
    assert os.listdir(tmp_path) == ["wrong.yaml"]  # no server, no data directory


async def test_files_that_cannot_be_read_are_named_with_the_reason(start_command: StartFleet, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    expected = {
        "folder.yaml": r": can't read 'folder.yaml': not a regular file$",
        "missing.yaml": r": can't read 'missing.yaml': No such file or directory$",
    }
    for name, (content, pattern) in UNREADABLE.items():
        (tmp_path / name).write_bytes(content)
        expected[name] = pattern
    overlays = [part for name in expected for part in ("--overlay", name)]

    told = await _refused(start_command("run", *overlays, cwd=tmp_path))

    assert len(told) == len(expected)
    for line, (name, pattern) in zip(told, expected.items(), strict=True):
        assert re.match(re.escape(name) + pattern, line), line


async def test_wrong_values_of_environment_command_line_and_modules_name_their_source(
    start_command: StartFleet,
) -> None:
    layers = start_command(
        "run",
        *("--set", "queues.email-send.lock=1ms"),
        *("--set", "queues.email-send.task.retries=3"),
        env={"FLEET__QUEUES__EMAIL_SEND__CONCURENCY": "4"},
    )
    module = start_command("run", "--set", "queues.email-send.task.options.smtp_url=ftp://me:hunter2@mail.example.com")
    url = start_command("run", env={"REDIS_URL": "redis://me:hunter2@redis.example.com:notaport/0"})

    (variable, retries, lock) = await _refused(layers)
    assert variable == (
        "FLEET__QUEUES__EMAIL_SEND__CONCURENCY: queues.email-send.concurency: unknown key; did you mean 'concurrency'?"
    )
    assert lock.startswith("--set: queues.email-send.lock: expected a duration of at least 1s")
    assert retries == "--set: queues.email-send.task.retries: unknown key; did you mean 'retry'?"
    (option,) = await _refused(module)
    assert option.startswith("--set: queues.email-send.task.options.smtp_url: expected smtp://host:port or smtps://")
    (server,) = await _refused(url)
    assert re.match(r"fleet\.yaml:\d+:\d+: redis\.url: can't be read: write redis://user:password@host:6379/0", server)


CHOICES = {
    ("--queues", "emial-send"): "the configuration has no queue 'emial-send'; did you mean 'email-send'?",
    ("--pool", "comunication"): "the configuration has no pool 'comunication'; did you mean 'communication'?",
    ("--queues", "zz"): "the configuration has no queue 'zz'; known here: email-send, export-user-data, ",
    ("--queues", "sms-message"): "nothing to serve: this version has no module for sms-message; it has: ",
    ("--queues", "email-send", "--pool", "ai"): "nothing to serve: of email-send none is in pool ai",
    ("--queues", ","): "nothing to serve: no queue is named",
}


async def test_choice_of_queues_that_cannot_be_served_says_why(
    start_command: StartFleet, valkey: Server, redis: Redis
) -> None:
    before = await redis.dbsize()
    commands = {arguments: start_command("run", *arguments, env={"REDIS_URL": valkey.url}) for arguments in CHOICES}
    for arguments, message in CHOICES.items():
        (line,) = await _refused(commands[arguments])
        assert line.startswith(message)
    assert await redis.dbsize() == before


async def test_port_in_use_is_said_with_the_setting_and_leaves_nothing_behind(
    start_command: StartFleet, valkey: Server, redis: Redis, tmp_path: Path
) -> None:
    before = await redis.dbsize()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {"REDIS_URL": valkey.url, "FLEET__HTTP__PORT": str(port), "TMPDIR": str(tmp_path)}
        for fleet in [start_command("run", *mode, env=env) for mode in ((), ("--single-process",))]:
            assert await fleet.exit_code() == 1
            assert fleet.err[-1] == (
                f"can't listen on 127.0.0.1:{port}: the port is in use; set http.port to another (0 takes a free one)"
            )
            assert "Traceback" not in fleet.text
    assert os.listdir(tmp_path) == []
    assert await redis.dbsize() == before


async def test_module_that_cannot_be_opened_is_said_in_one_line(start_command: StartFleet, valkey: Server) -> None:
    option = ("--set", "queues.email-send.task.options.ca_file=/nowhere/ca.pem")
    single, supervised = (
        start_command("run", *mode, *option, env={"REDIS_URL": valkey.url}) for mode in (("--single-process",), ())
    )
    line = "queue email-send can't be opened: options.ca_file: /nowhere/ca.pem: No such file or directory"
    assert await single.exit_code() == 1
    assert [record["event"] for record in single.records(level="error")] == [line]
    # The file may come to be there, so a supervisor goes on trying.
    await supervised.says("restarting it in 1.0 s")
    assert supervised.said("can't be opened") == [line, line]
    assert supervised.probe("readyz")[0] is False
    assert supervised.probe("livez")[0] is True
    assert await supervised.terminate() == 0
    for fleet in (single, supervised):
        assert len(fleet.records()) == len(fleet.err)

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from config.loader import load
from config.schema import FleetConfig
from workers.cli import dev as dev_command
from workers.cli.commands import app
from workers.cli.dev import localized
from workers.cli.options import shipped_config
from workers.dev.local_run import Addresses

LOCAL = Addresses(redis="redis://127.0.0.1:7000/0", smtp="smtp://127.0.0.1:7001")


def configuration(*settings: str) -> FleetConfig:
    return load(shipped_config(), env={}, overrides=settings).config


def test_no_mail_leaves_the_machine_whatever_the_configuration_says() -> None:
    config = configuration(
        "queues.email-send.task.options.smtp_url=smtps://mail.example.com",
        "queues.email-send.task.options.username=me",
        "queues.email-send.task.options.password=hunter2",
        "queues.email-send.task.options.tls=implicit",
        "queues.email-send.task.options.from_alias=me@example.com",
        "http.port=0",
    )
    local = localized(config, LOCAL, say=lambda _text: None)
    options = local.queues["email-send"].task.options
    assert options["smtp_url"] == LOCAL.smtp
    assert (options["username"], options["password"], options["tls"]) == ("", "", "none")
    assert options["from_alias"] == "me@example.com"
    assert "hunter2" not in local.model_dump_json()


def test_only_the_servers_change() -> None:
    config = configuration("http.port=0")
    local = localized(config, LOCAL, say=lambda _text: None)
    assert local.redis == config.redis.model_copy(update={"url": LOCAL.redis})
    assert local.http == config.http
    assert local.pools == config.pools
    for name, entry in config.queues.items():
        assert local.queues[name].model_copy(update={"task": entry.task}) == entry
        assert local.queues[name].task.retry == entry.task.retry


@pytest.mark.parametrize("taken", [True, False])
def test_port_in_use_gives_way_and_is_told(taken: bool) -> None:
    said: list[str] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        if taken:
            other.listen()
        else:
            other.close()
        local = localized(configuration(f"http.port={port}"), LOCAL, say=said.append)
    assert local.http.port == (0 if taken else port)
    assert said == ([f"port {port} is in use, health and metrics get another"] if taken else [])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "queues.email-send.concurrency=many"], 2, "queues.email-send.concurrency: expected"),
        (["--set", "queues.email-send.task.options.tls=perhaps"], 2, "queues.email-send.task.options.tls: "),
        (["--config", "missing.yaml"], 2, "missing.yaml"),
        (["--for", "soon"], 2, "a duration like 30s"),
        (["--rate", "5000"], 2, "from 0 to 1000, found '5000'"),
        (["--rate", "nan"], 2, "from 0 to 1000, found 'nan'"),
        (["--rate", "fast"], 2, "from 0 to 1000, found 'fast'"),
        (["--data-dir", "/dev/null/x"], 1, "fleet: can't write the log /dev/null/x/fleet.log: Not a directory"),
    ],
)
def test_wrong_input_is_told_before_anything_starts(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "SMTP_URL"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, ["dev", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_command, "LARGEST_LOG", 3)
    log = tmp_path / "fleet.log"
    for text in ("long", "new"):
        with ExitStack() as stack:
            dev_command._log_to(log, stack)
            sys.stderr.write(f"{text}\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "fleet.log.old").read_text() == "long\n"

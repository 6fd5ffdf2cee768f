from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from config.json_schema import SCHEMA_FILE
from workers.cli import config as group

TEXT = """\
redis: {url: "redis://me:hunter1@host/0"}
pools:
  communication: {}
queues:
  email-send:
    pool: communication
    concurrency: 5
    task:
      timeout: 30s
      options: {smtp_url: "smtp://127.0.0.1", from_alias: hi@example.com, password: "${PW:-}"}
  sms-message: {pool: communication, concurrency: 3, task: {timeout: 45s}}
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FLEET_CONFIG", "PW"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT)
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(group.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_check_of_a_correct_file_is_one_line(fleet: Path) -> None:
    assert run("check", "-c", fleet) == (0, f"{fleet}: correct (queues: 2, pools: 1)\n", "")


def test_check_names_what_nothing_acts_on_yet(fleet: Path) -> None:
    code, out, err = run("check", "-c", fleet, "--set", "queues.email-send.slo.p50=1s")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["read, but nothing acts on it yet: queues.*.slo"]


def test_check_tells_all_issues_on_standard_error_and_exits_2(fleet: Path) -> None:
    code, out, err = run("check", "-c", fleet, "--set", "http.port=x", "--set", "queues.email-send.lock=1ms")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "--set: http.port: expected an integer from 0 to 65535, found 'x'",
        "--set: queues.email-send.lock: expected a duration of at least 1s, since the lock is renewed at half of it, "
        "found '1ms'",
    ]


def test_check_asks_the_modules_about_their_options(fleet: Path) -> None:
    fleet.write_text(TEXT.replace("smtp://127.0.0.1", "gopher://me:hunter2@h"))
    code, _, err = run("check", "-c", fleet)
    assert code == 2
    assert err.startswith("fleet.yaml:10:17: queues.email-send.task.options.smtp_url: expected ")
    assert "hunter2" not in err


def test_configuration_comes_from_the_environment(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_CONFIG", str(fleet))
    monkeypatch.setenv("FLEET__QUEUES__EMAIL_SEND__CONCURRENCY", "9")
    code, out, _ = run("explain", "queues.email-send.concurrency")
    assert (code, out) == (0, "queues.email-send.concurrency  9  env FLEET__QUEUES__EMAIL_SEND__CONCURRENCY\n")


def test_show_prints_what_was_written_and_masks_secrets(fleet: Path) -> None:
    code, out, _ = run("show", "-c", fleet)
    tree = YAML(typ="safe", pure=True).load(out)
    assert code == 0
    assert tree["redis"] == {"url": "redis://me:***@host/0"}
    assert tree["queues"]["email-send"]["task"]["options"]["password"] == "${PW:-}"
    assert "log" not in tree


@pytest.mark.parametrize("as_json", [False, True])
def test_show_resolved_prints_everything_in_force(fleet: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    monkeypatch.setenv("PW", "hunter2")
    code, out, _ = run("show", "--resolved", "-c", fleet, *(["--json"] if as_json else []))
    tree = json.loads(out) if as_json else YAML(typ="safe", pure=True).load(out)
    assert code == 0
    assert tree["queues"]["email-send"]["max_data"] == "4MB"
    assert tree["queues"]["email-send"]["task"]["options"]["password"] == "***"
    assert tree["log"]["level"] == "info"
    assert "hunter" not in out


def test_explain_shows_only_the_key_asked_for(fleet: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "over.yaml"
    overlay.write_text("queues: {email-send: {keep: {failed: forever}}}\n")
    code, out, _ = run("explain", "queues.email_send.keep", "-c", fleet, "-o", overlay)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["queues.email-send.keep.completed", "24h/5000", "default"],
        ["queues.email-send.keep.failed", "forever", "over.yaml:1:30"],
    ]
    assert len(run("explain", "-c", fleet)[1].splitlines()) > 50


def test_explain_of_an_unknown_key_suggests_one(fleet: Path) -> None:
    assert run("explain", "queues.email-sned", "-c", fleet) == (
        2,
        "",
        "queues.email-sned: unknown key; did you mean 'email-send'?\n",
    )


@pytest.mark.parametrize("command", ["check", "show", "explain"])
def test_absent_file_is_named(tmp_path: Path, command: str) -> None:
    code, out, err = run(command, "-c", tmp_path / "no.yaml")
    assert (code, out) == (2, "")
    assert err == f"no.yaml: can't read '{tmp_path}/no.yaml': No such file or directory\n"


def test_schema_is_printed_checked_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = SCHEMA_FILE.read_text(encoding="utf-8")
    assert run("schema") == (0, committed, "")
    assert run("schema", "--check")[0] == 0
    copy = tmp_path / "schema.json"
    monkeypatch.setattr(group, "SCHEMA_FILE", copy)
    assert run("schema", "--check")[0] == 1
    copy.write_text("{}")
    code, _, err = run("schema", "--check")
    assert code == 1
    assert err == f"{copy} is out of date; write it with: fleet config schema --write\n"
    assert run("schema", "--write")[0] == 0
    assert copy.read_text(encoding="utf-8") == committed

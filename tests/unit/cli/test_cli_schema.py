from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workers.cli import schema as group
from workers.cli.commands import app
from workers.wire_schema.json_schema import SCHEMA_FILE, wire_schema
from workers.wire_schema.typescript import TYPESCRIPT_FILE

Write = Callable[[str, Any], Path]


def run(*arguments: str | Path, stdin: str | None = None) -> tuple[int, str, str]:
    words = ["schema", *map(str, arguments)]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"}, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, schema: Any) -> Path:
        (tmp_path / name).write_text(schema if isinstance(schema, str) else json.dumps(schema))
        return tmp_path / name

    return write


@pytest.fixture
def old() -> dict[str, Any]:
    return wire_schema()


FILES = [("json", "SCHEMA_FILE", SCHEMA_FILE), ("typescript", "TYPESCRIPT_FILE", TYPESCRIPT_FILE)]


@pytest.mark.parametrize(("command", "constant", "file"), FILES, ids=[row[0] for row in FILES])
def test_output_is_printed_checked_and_written(
    command: str, constant: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = file.read_text(encoding="utf-8")
    assert run(command) == (0, committed, "")
    assert run(command, "--check") == (0, f"{file} is current\n", "")
    copied = tmp_path / file.name
    monkeypatch.setattr(group, constant, copied)
    told = f"{copied} is out of date; write it with: fleet schema {command} --write\n"
    assert run(command, "--check") == (1, "", told)
    copied.write_text("{}")
    assert run(command, "--check") == (1, "", told)
    assert run(command, "--write") == (0, f"wrote {copied}\n", "")
    assert copied.read_text(encoding="utf-8") == committed


def test_one_type_alone() -> None:
    code, out, _ = run("json", "--type", "sms-message")
    assert (code, set(json.loads(out)["$defs"])) == (0, {"SmsMessage", "TaskId"})
    code, out, _ = run("typescript", "-t", "run-start")
    assert code == 0
    assert "export type AnyTask = AnyRunStart;" in out


@pytest.mark.parametrize("command", ["json", "typescript"])
def test_what_makes_no_sense_is_refused(command: str) -> None:
    code, out, err = run(command, "--type", "sms-massage")
    assert (code, out) == (2, "")
    assert err.startswith("fleet schema: --type: expected one of email-send, ")
    assert err.endswith(", found 'sms-massage'\n")
    assert run(command, "--type", "sms-message", "--write")[0] == 2
    assert run(command, "--check", "--write")[0] == 2


def test_no_change_breaks_nothing(write: Write, old: dict[str, Any]) -> None:
    file = write("old.json", old)
    assert run("check", file, file) == (0, "Nothing breaks.\n", "")
    assert run("check", file) == (0, "Nothing breaks.\n", "")
    assert run("check", "-", file, stdin=json.dumps(old)) == (0, "Nothing breaks.\n", "")
    assert json.loads(run("check", "--json", file)[1]) == {"breaks": False, "changes": []}


def test_a_new_optional_field_is_fine(write: Write, old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["$defs"]["SmsMessage"]["properties"]["sender"] = {"type": "string"}
    told = "fine: SmsMessage.sender: is new; older workers keep it and don't read it (sms-message)\nNothing breaks.\n"
    assert run("check", "--mixed", write("old.json", old), write("new.json", new)) == (0, told, "")


def test_what_breaks_exits_1(write: Write, old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["$defs"]["SmsMessage"]["properties"]["sender"] = {"type": "string"}
    new["$defs"]["SmsMessage"]["required"].append("sender")
    before, after = write("old.json", old), write("new.json", new)
    code, out, err = run("check", before, after)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "breaks producers and waiting jobs: SmsMessage.sender: is required now (sms-message)",
        "It breaks.",
    ]
    code, out, _ = run("check", before, after, "--json")
    told = json.loads(out)
    assert (code, told["breaks"]) == (1, True)
    assert told["changes"][0] == {
        "where": "SmsMessage.sender",
        "what": "is required now",
        "breaks": ["producers", "waiting jobs"],
        "tasks": ["sms-message"],
    }


def test_what_older_workers_cannot_read_breaks_where_they_run(write: Write, old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["$defs"]["ImportConfig"]["properties"]["onConflict"]["enum"].append("merge")
    before, after = write("old.json", old), write("new.json", new)
    line = "older workers: ImportConfig.onConflict: takes 'merge' now; older workers refuse that (import-user-data)\n"
    assert run("check", before, after) == (0, line + "Nothing breaks if workers are updated before producers.\n", "")
    assert run("check", before, after, "--mixed") == (1, line + "It breaks.\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "isn't JSON: "),
        ("\x00", "isn't JSON: "),
        ("[" * 100_000, "isn't JSON: "),
        ("[]", "isn't a schema made by `fleet schema json`"),
        ("{}", "not made by `fleet schema json`: it tells no task types apart by `type`"),
        ('{"discriminator": {"mapping": {"a": "b"}}}', "nothing is defined at 'b'"),
    ],
)
def test_what_cannot_be_compared_exits_2(write: Write, old: dict[str, Any], text: str, message: str) -> None:
    if '"b"' in text:
        old["discriminator"]["mapping"]["a"] = "#/$defs/Tool"
    good, bad = write("good.json", old), write("bad.json", text)
    for pair in ((good, bad), (bad, good)):
        code, out, err = run("check", *pair)
        assert (code, out) == (2, "")
        assert err.startswith("fleet schema: ")
        assert message in err
        assert err.count("\n") == 1


def test_an_unreadable_file_exits_2(write: Write, tmp_path: Path) -> None:
    missing = tmp_path / "no.json"
    assert run("check", missing) == (2, "", f"fleet schema: can't read {missing}: No such file or directory\n")
    assert run("check", tmp_path)[0] == 2
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe")
    assert run("check", binary)[0] == 2
    assert run("check", "-", "-") == (2, "", "fleet schema: only one of the two can come from standard input\n")

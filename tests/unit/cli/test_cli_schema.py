from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import config
from tasks.codec import DecodeError, decode
from tasks.sms_message import SmsMessage
from workers.cli import schema as group
from workers.cli.commands import app
from workers.wire_schema.any_task import ANY_TASK_FILE
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


FILES = [
    ("json", "SCHEMA_FILE", SCHEMA_FILE),
    ("typescript", "TYPESCRIPT_FILE", TYPESCRIPT_FILE),
    ("python", "ANY_TASK_FILE", ANY_TASK_FILE),
]


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
    assert json.loads(run("check", "--json", file)[1]) == {"breaks": False, "warns": False, "changes": []}


def test_a_new_optional_field_is_warned_of_and_breaks_where_that_is_asked(write: Write, old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["$defs"]["SmsMessage"]["properties"]["sender"] = {"type": "string"}
    before, after = write("old.json", old), write("new.json", new)
    line = (
        "warning: SmsMessage.sender: is new, and takes a string alone: jobs of producers who already send it "
        "undeclared, otherwise, are refused (sms-message)\n"
    )
    told = f"{line}Nothing breaks if no job carries the fields warned of already.\n"
    assert run("check", before, after) == (0, told, "")
    assert run("check", before, after, "--mixed") == (0, told, "")
    assert run("check", before, after, "--strict") == (1, f"{line}It breaks.\n", "")
    code, out, _ = run("check", before, after, "--json")
    (change,) = json.loads(out)["changes"]
    assert (code, json.loads(out)["breaks"], json.loads(out)["warns"]) == (0, False, True)
    assert (change["where"], change["breaks"], change["warns"]) == ("SmsMessage.sender", [], True)


def test_a_warning_is_about_what_really_is_refused(write: Write, old: dict[str, Any]) -> None:
    """A model that declares what Node sends undeclared: old jobs stay valid to the old schema, and don't decode."""

    class Sms(SmsMessage):
        sender: str | None = None

    data = {"type": "sms-message", "id": "1", "to": ["+15555550123"], "body": "b", "sender": {"name": "Fleet"}}
    assert decode(data).model_extra == {"sender": {"name": "Fleet"}}
    with pytest.raises(DecodeError, match=r"data\.sender"):
        decode(data, {"sms-message": Sms})
    part = {"sms-message": SmsMessage}
    new = write("new.json", json.loads(json.dumps(wire_schema({"sms-message": Sms})).replace('Sms"', 'SmsMessage"')))
    code, out, _ = run("check", write("old.json", wire_schema(part)), new)
    assert code == 0
    assert out.startswith("warning: SmsMessage.sender: is new, and takes a string or null alone: ")


def test_a_new_field_of_any_value_is_fine(write: Write, old: dict[str, Any]) -> None:
    new = copy.deepcopy(old)
    new["$defs"]["SmsMessage"]["properties"]["sender"] = {}
    told = "fine: SmsMessage.sender: is new; older workers keep it and don't read it (sms-message)\nNothing breaks.\n"
    assert run("check", "--strict", write("old.json", old), write("new.json", new)) == (0, told, "")


BREAKING: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda new: new["$defs"]["Tool"]["required"].append("description"), "Tool.description: is required now"),
    (
        lambda new: new["$defs"]["ImportConfig"]["properties"]["onConflict"]["enum"].remove("skip"),
        "ImportConfig.onConflict: no longer takes 'skip'",
    ),
    (lambda new: new["discriminator"]["mapping"].pop("sms-message"), "sms-message: the task type is gone"),
    (
        lambda new: new["$defs"]["SmsMessage"]["properties"]["to"].update(minItems=2),
        "SmsMessage.to: minItems 2 now, before minItems 1",
    ),
    (
        lambda new: new["$defs"]["NotificationCreate"]["properties"]["userId"].update(minLength=2, pattern="^[0-9]+$"),
        "NotificationCreate.userId: minLength 2 now, before minLength 1",
    ),
]


@pytest.mark.parametrize(("edit", "line"), BREAKING, ids=[row[1] for row in BREAKING])
def test_what_narrows_breaks_and_is_told_with_its_path(
    edit: Callable[[dict[str, Any]], object], line: str, write: Write, old: dict[str, Any]
) -> None:
    new = copy.deepcopy(old)
    edit(new)
    code, out, _ = run("check", write("old.json", old), write("new.json", new))
    assert code == 1
    assert f"breaks producers and waiting jobs: {line}" in out
    assert out.endswith("It breaks.\n")


#: What the schema said of notifications, numbers and mails before it said all that `decode` does.
LAX: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        lambda old: old["$defs"]["NotificationCreate"]["properties"]["id"].pop("pattern"),
        'NotificationCreate.id: pattern "^([0-9]{1,18}|',
    ),
    (
        lambda old: old["$defs"]["NotificationCreate"]["properties"]["userId"].pop("minLength"),
        "NotificationCreate.userId: minLength 1 now, before no minLength",
    ),
    (
        lambda old: old["$defs"]["EmailSend"]["properties"]["timeout"]["anyOf"][0].pop("maximum"),
        "EmailSend.timeout: maximum 9007199254740991 now, before no maximum",
    ),
    (
        lambda old: old["$defs"]["EmailSend"].update(
            anyOf=[{"required": ["subject", "text"]}, {"required": ["template"]}]
        ),
        "EmailSend.text: no longer takes a string, but ''",
    ),
]


@pytest.mark.parametrize(("edit", "line"), LAX, ids=[row[1] for row in LAX])
def test_each_rule_of_decode_is_one_of_the_schema(
    edit: Callable[[dict[str, Any]], object], line: str, write: Write, old: dict[str, Any]
) -> None:
    edit(old)
    code, out, _ = run("check", write("old.json", old))
    assert code == 1
    assert f"breaks producers and waiting jobs: {line}" in out


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
        "warns": False,
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
        assert ("bad.json" if "JSON: " in message or text == "[]" else "old" if bad == pair[0] else "new") in err
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


def test_a_file_that_is_too_large_exits_2_without_being_read_whole(
    write: Write, old: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write("good.json", old)
    told = "is larger than 10,000,000 bytes: no schema made by `fleet schema json`\n"
    assert run("check", "/dev/zero", good) == (2, "", f"fleet schema: /dev/zero {told}")
    assert run("check", good, "/dev/zero") == (2, "", f"fleet schema: /dev/zero {told}")
    assert run("check", "-", good, stdin=" " * 10_000_001) == (2, "", f"fleet schema: - {told}")
    padded = write("padded.json", json.dumps(old) + " " * (10_000_000 - len(json.dumps(old))))
    assert run("check", padded, good)[0] == 0


def test_a_schema_of_something_else_exits_2(write: Write) -> None:
    other = Path(config.__file__).with_name("schema.json")
    code, out, err = run("check", other)
    assert (code, out) == (2, "")
    assert err == (
        "fleet schema: the old schema: not made by `fleet schema json`: it tells no task types apart by `type`\n"
    )

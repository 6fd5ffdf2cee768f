from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from jsonschema import Draft202012Validator

from tasks import TASKS
from tasks.base import Shape, Task
from tasks.codec import decode
from tests.unit.tasks.wire_data import EXAMPLES
from workers.wire_schema.json_schema import SCHEMA_FILE, schema_of, schema_text, wire_schema

SHARED = Path(__file__).parents[4] / "shared" / "fixtures" / "example_jobs.json"
SCHEMA = wire_schema()
VALID = Draft202012Validator(SCHEMA)


def example(kind: str) -> dict[str, Any]:
    return next(dict(job["data"]) for job in EXAMPLES if job["data"]["type"] == kind)


def test_committed_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(SCHEMA), "write it: fleet schema json --write"


def test_it_is_a_schema_with_every_type() -> None:
    VALID.check_schema(SCHEMA)
    assert set(SCHEMA["discriminator"]["mapping"]) == set(TASKS)
    assert len(SCHEMA["oneOf"]) == len(TASKS)


def check(data: dict[str, Any]) -> None:
    """A job that Node really writes is valid, by the whole schema and by that of its type."""
    assert [error.message for error in VALID.iter_errors(data)] == []
    Draft202012Validator(schema_of(data["type"], SCHEMA)).validate(data)


@pytest.mark.parametrize("data", [job["data"] for job in EXAMPLES], ids=lambda data: data["type"])
def test_every_example_is_valid(data: dict[str, Any]) -> None:
    check(data)


def test_every_fixture_of_the_node_stack_is_valid() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED.name} of the Node stack isn't here; the examples are in the repository")
    jobs = json.loads(SHARED.read_text())
    assert jobs
    for job in jobs:
        check(job["data"])


def test_there_is_an_example_of_every_type() -> None:
    assert {job["data"]["type"] for job in EXAMPLES} == set(TASKS)


@pytest.mark.parametrize("kind", sorted(TASKS))
@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"id": None},
        {"userId": 7},
        {"timeout": "30s"},
        {"schemaVersion": 99},
        {"schemaVersion": 0},
        {"type": "email-sned"},
        {"idempotencyKey": 1},
    ],
    ids=str,
)
def test_what_does_not_decode_is_invalid(kind: str, change: dict[str, Any]) -> None:
    data = example(kind) | change
    with pytest.raises(ValueError):
        decode(data)
    assert not VALID.is_valid(data)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_a_required_field_may_not_be_absent(kind: str) -> None:
    data = example(kind)
    required = [name for name, field in TASKS[kind].model_fields.items() if field.is_required()]
    wire = {TASKS[kind].model_fields[name].alias or name for name in required} & data.keys()
    assert wire
    for name in wire:
        assert not VALID.is_valid({key: value for key, value in data.items() if key != name}), name


def test_an_idempotency_key_stands_for_the_id() -> None:
    data = example("sms-message")
    del data["id"]
    assert not VALID.is_valid(data)
    data["idempotencyKey"] = "k"
    assert VALID.is_valid(data)
    assert decode(data).id == "k"
    assert not VALID.is_valid(data | {"idempotencyKey": None})


def test_unknown_fields_are_valid() -> None:
    assert VALID.is_valid(example("run-start") | {"user_id": [1], "__proto__": {}})


def test_a_mail_has_a_content() -> None:
    mail = {"type": "email-send", "id": "1", "to": ["a@example.com"]}
    assert not VALID.is_valid(mail)
    assert VALID.is_valid(mail | {"subject": "s", "text": "t"})
    assert VALID.is_valid(mail | {"template": "welcome", "data": {}})
    assert not VALID.is_valid(mail | {"template": 1})
    assert not VALID.is_valid(mail | {"template": "welcome", "text": "t"})
    assert not VALID.is_valid(mail | {"template": "welcome", "html": "<p>h</p>"})
    assert VALID.is_valid(mail | {"template": "welcome", "text": "", "html": None})
    assert VALID.is_valid(mail | {"subject": "s", "text": "t", "template": None})


def test_a_key_is_an_id_by_the_rule_of_the_ids() -> None:
    entry = example("notification-create")
    del entry["id"]
    assert VALID.is_valid(entry | {"idempotencyKey": "7"})
    assert not VALID.is_valid(entry | {"idempotencyKey": "seven"})
    assert VALID.is_valid(entry | {"idempotencyKey": "seven", "id": "7"})


def test_older_shapes_are_marked() -> None:
    marked = {name for name, each in SCHEMA["$defs"].items() if each.get("deprecated")}
    assert marked == {older.__name__ for task in TASKS.values() for older in task.OLDER_SHAPES}


def test_fields_are_described_in_the_words_of_the_wire() -> None:
    fields = SCHEMA["$defs"]["RunInput"]["properties"]
    assert fields["isNewRun"]["description"] == "false: the run exists, and goes on where it stopped."
    assert "is_new_run" not in SCHEMA_FILE.read_text()


class Renamed(Task):
    """One more."""

    type: Literal["one-more"] = "one-more"
    KNOWN_SCHEMA: ClassVar[int] = 3
    a_field: int = 4


def test_a_new_type_needs_nothing_but_its_model() -> None:
    schema = wire_schema({"one-more": Renamed})
    fields = schema["$defs"]["Renamed"]["properties"]
    assert fields["aField"] == {"default": 4, "type": "integer"}
    assert fields["schemaVersion"]["anyOf"][0]["maximum"] == 3
    valid = Draft202012Validator(schema)
    assert valid.is_valid({"type": "one-more", "id": "1", "schemaVersion": 3})
    assert not valid.is_valid({"id": "1"})


class TaskId(Task):
    type: Literal["x"] = "x"


def test_a_model_may_not_take_the_schemas_own_name() -> None:
    with pytest.raises(TypeError, match="TaskId"):
        wire_schema({"x": TaskId})


class Other(Task):
    type: Literal["y"] = "y"

    @classmethod
    def shape_of(cls, data: Any) -> Shape:
        return Renamed


def test_a_shape_that_its_own_task_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="doesn't know Other"):
        wire_schema({"y": Other})


def test_one_type_has_its_own_parts_alone() -> None:
    part = schema_of("sms-message", SCHEMA)
    assert set(part["$defs"]) == {"SmsMessage", "TaskId"}
    with pytest.raises(KeyError):
        schema_of("no-such", SCHEMA)

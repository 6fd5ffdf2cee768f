from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tasks import TASKS
from tasks.base import Shape, Task
from tasks.codec import decode
from tests.unit.tasks.wire_data import EXAMPLES, SHAPES, of_shape
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


@pytest.mark.parametrize("number", range(15))
def test_every_fixture_is_valid(number: int) -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED.name} of the Node stack isn't here")
    jobs = json.loads(SHARED.read_text())
    assert len(jobs) == 15
    data = jobs[number]["data"]
    assert [error.message for error in VALID.iter_errors(data)] == []
    Draft202012Validator(schema_of(data["type"], SCHEMA)).validate(data)


def test_our_own_examples_are_valid() -> None:
    assert {job["data"]["type"] for job in EXAMPLES} == set(TASKS)
    assert all(VALID.is_valid(job["data"]) for job in EXAMPLES)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_what_decodes_is_valid(shape: Shape) -> None:
    kind = shape.model_fields["type"].default
    validator = Draft202012Validator(schema_of(kind, SCHEMA))

    @settings(max_examples=12, deadline=None)
    @given(of_shape(shape))
    def each(data: dict[str, Any]) -> None:
        decode(data)
        assert [error.message[:200] for error in validator.iter_errors(data)] == []

    each()


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


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_a_value_of_another_type_is_invalid_where_it_does_not_decode(job: dict[str, Any], data: st.DataObject) -> None:
    kept = dict(job["data"])
    name = data.draw(st.sampled_from(sorted(kept)))
    kept[name] = data.draw(st.sampled_from([None, True, 1.5, "", "x", [], [1], {}, {"a": 1}]))
    try:
        decode(kept)
    except ValueError:
        return  # the schema may take what only code can refuse
    assert VALID.is_valid(kept)

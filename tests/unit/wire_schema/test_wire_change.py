"""The table: each kind of change of the schema, and whom it breaks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from workers.wire_schema.change import Effect, changes
from workers.wire_schema.forms import NotComparable
from workers.wire_schema.json_schema import wire_schema

OLD = wire_schema()
FINE: frozenset[Effect] = frozenset()
PRODUCERS = frozenset({Effect.PRODUCERS})
BREAKS = frozenset({Effect.PRODUCERS, Effect.WAITING})
OLDER = frozenset({Effect.OLDER_WORKERS})
ALL = BREAKS | OLDER
WARNS = frozenset({Effect.UNDECLARED})
#: The largest number of JavaScript's that is exact.
SAFE = 2**53 - 1

Edit = Callable[[dict[str, Any]], object]


def field(model: str, name: str, schema: Any) -> Edit:
    return lambda new: new["$defs"][model]["properties"].update({name: schema})


def dropped(model: str, name: str) -> Edit:
    def edit(new: dict[str, Any]) -> None:
        del new["$defs"][model]["properties"][name]
        new["$defs"][model]["required"] = [each for each in new["$defs"][model]["required"] if each != name]

    return edit


def required(model: str, *names: str, schema: Any = None) -> Edit:
    def edit(new: dict[str, Any]) -> None:
        definition = new["$defs"][model]
        definition["required"] = sorted({*definition.get("required", []), *names})
        for name in names:
            definition["properties"].setdefault(name, schema)

    return edit


def optional(model: str, name: str) -> Edit:
    return lambda new: new["$defs"][model]["required"].remove(name)


def without_type(name: str) -> Edit:
    def edit(new: dict[str, Any]) -> None:
        reference = new["discriminator"]["mapping"].pop(name)
        new["oneOf"].remove({"$ref": reference})

    return edit


def with_type(new: dict[str, Any]) -> None:
    new["$defs"]["FaxSend"] = {"type": "object", "properties": {"type": {"const": "fax-send"}}, "required": ["type"]}
    new["discriminator"]["mapping"]["fax-send"] = "#/$defs/FaxSend"
    new["oneOf"].append({"$ref": "#/$defs/FaxSend"})


def without_shape(name: str, shape: str) -> Edit:
    def edit(new: dict[str, Any]) -> None:
        new["$defs"][name]["oneOf"].remove({"$ref": f"#/$defs/{shape}"})
        del new["$defs"][shape]

    return edit


def renamed(before: str, after: str) -> Edit:
    def edit(new: dict[str, Any]) -> None:
        text = json.dumps(new).replace(f'"#/$defs/{before}"', f'"#/$defs/{after}"')
        new.update(json.loads(text))
        new["$defs"][after] = new["$defs"].pop(before)

    return edit


def closed(model: str, name: str, schema: Any) -> Edit:
    """Edits both: unknown fields were refused before."""

    def edit(new: dict[str, Any]) -> None:
        new["$defs"][model] |= {"additionalProperties": False}
        field(model, name, schema)(new)

    return edit


def known_version(number: int) -> Edit:
    return field("SmsMessage", "schemaVersion", {"anyOf": [{"type": "integer", "minimum": 1, "maximum": number}]})


STRING: dict[str, Any] = {"type": "string"}
NULL = {"type": "null"}
CONFLICT = {"enum": ["overwrite", "skip", "error"], "type": "string"}

TABLE: list[tuple[str, Edit, dict[str, frozenset[Effect]]]] = [
    ("nothing", lambda new: None, {}),
    ("a description", field("Tool", "name", STRING | {"description": "x"}), {}),
    ("an example", field("Tool", "name", STRING | {"examples": ["x"]}), {}),
    ("a shape is deprecated", lambda new: new["$defs"]["SmsMessage"].update(deprecated=True), {}),
    ("a new optional field", field("SmsMessage", "sender", {"anyOf": [STRING, NULL]}), {"SmsMessage.sender": WARNS}),
    ("a new optional field in a part", field("Tool", "since", STRING), {"Tool.since": WARNS}),
    ("a new field that may be anything", field("Tool", "since", {"description": "Any JSON."}), {"Tool.since": FINE}),
    ("a new name that must be absent", field("Tool", "since", False), {"Tool.since": WARNS}),
    ("a new field where none was let through", closed("Tool", "since", STRING), {"Tool.since": OLDER}),
    ("a new required field", required("SmsMessage", "sender", schema=STRING), {"SmsMessage.sender": BREAKS}),
    ("an optional field becomes required", required("Tool", "description"), {"Tool.description": BREAKS}),
    ("a required field becomes optional", optional("SmsMessage", "body"), {"SmsMessage.body": OLDER}),
    ("a required field is gone", dropped("SmsMessage", "body"), {"SmsMessage.body": BREAKS | OLDER}),
    ("an optional field is gone", dropped("RunInput", "startedById"), {"RunInput.startedById": BREAKS}),
    ("a field must be absent", field("RunInput", "startedById", False), {"RunInput.startedById": BREAKS}),
    ("a field may be there again", field("FlatRun", "input", STRING), {"FlatRun.input": OLDER}),
    ("another type", field("Tool", "name", {"type": "integer"}), {"Tool.name": ALL}),
    ("no null any more", field("Tool", "description", STRING), {"Tool.description": BREAKS}),
    ("null as well", field("Tool", "name", {"anyOf": [STRING, NULL]}), {"Tool.name": OLDER}),
    ("narrowed to integers", field("ExecutionConfig", "temperature", {"anyOf": [
        {"type": "integer", "minimum": -SAFE, "maximum": SAFE}, NULL]}), {"ExecutionConfig.temperature": BREAKS}),
    ("widened to numbers", field("Allocation", "maxMemoryMB", {"anyOf": [{"type": "number", "minimum": 0}, NULL]}),
     {"Allocation.maxMemoryMB": OLDER}),
    ("narrowed to words", field("RunInput", "runFrom", {"anyOf": [{"enum": ["Api", "Bot"]}, NULL]}),
     {"RunInput.runFrom": BREAKS}),
    ("widened from words", field("ImportConfig", "onConflict", STRING), {"ImportConfig.onConflict": OLDER}),
    ("a value is gone", field("ImportConfig", "onConflict", {"enum": ["overwrite", "skip"]}),
     {"ImportConfig.onConflict": BREAKS}),
    ("a new value", field("ImportConfig", "onConflict", {"enum": [*CONFLICT["enum"], "merge"]}),
     {"ImportConfig.onConflict": OLDER}),
    ("values of a type that they don't have", field("ImportConfig", "onConflict", CONFLICT | {"type": "null"}),
     {"ImportConfig.onConflict": BREAKS}),
    ("an unknown keyword beside values", field("ImportConfig", "onConflict", CONFLICT | {"not": {"const": "skip"}}),
     {"ImportConfig.onConflict": BREAKS}),
    ("words that fit a pattern", field("ImportConfig", "onConflict", {"type": "string", "pattern": "^[a-z]+$"}),
     {"ImportConfig.onConflict": OLDER}),
    ("words that don't fit a pattern", field("ImportConfig", "onConflict", {"type": "string", "pattern": "^s"}),
     {"ImportConfig.onConflict": ALL}),
    ("a value for another", field("ImportConfig", "onConflict", {"enum": ["overwrite", "skip", "fail"]}),
     {"ImportConfig.onConflict": ALL}),
    ("anything is taken", field("Tool", "name", {}), {"Tool.name": OLDER}),
    ("no longer anything", field("SandboxExecution", "input", {"type": "object"}), {"SandboxExecution.input": BREAKS}),
    ("a bound", field("SmsMessage", "body", STRING | {"maxLength": 1600}), {"SmsMessage.body": BREAKS}),
    ("a tighter bound", field("SmsMessage", "to", {"type": "array", "items": STRING, "minItems": 2}),
     {"SmsMessage.to": BREAKS}),
    ("a bound is gone", field("SmsMessage", "to", {"type": "array", "items": STRING}), {"SmsMessage.to": OLDER}),
    ("a pattern", field("SmsMessage", "body", STRING | {"pattern": "^a"}), {"SmsMessage.body": BREAKS}),
    ("a keyword that is unknown here", field("SmsMessage", "body", STRING | {"not": {"const": "x"}}),
     {"SmsMessage.body": BREAKS}),
    ("other items", field("SmsMessage", "to", {"type": "array", "items": {"type": "integer"}, "minItems": 1}),
     {"SmsMessage.to[]": ALL}),
    ("other values of a map", field("RunInput", "formValues",
                                    {"anyOf": [{"type": "object", "additionalProperties": STRING}, NULL]}),
     {"RunInput.formValues.*": BREAKS}),
    ("unknown fields are refused", lambda new: new["$defs"]["Tool"].update(additionalProperties=False),
     {"Tool": BREAKS}),
    ("another default", field("EmailSend", "subject", STRING | {"default": "Hello"}), {"EmailSend.subject": ALL}),
    ("templates are no content any more", lambda new: new["$defs"]["EmailSend"]["anyOf"].pop(),
     {"EmailSend.subject": BREAKS, "EmailSend.text": BREAKS, "EmailSend.template": BREAKS}),
    ("one more content", lambda new: new["$defs"]["EmailSend"]["anyOf"].append({"required": ["html"]}),
     {"EmailSend.template": OLDER, "EmailSend.text": OLDER, "EmailSend.html": OLDER}),
    ("a key is no id any more", lambda new: new["$defs"]["TaskId"]["anyOf"].pop(), {}),
    ("a task type is gone", without_type("sms-message"), {"sms-message": BREAKS}),
    ("a new task type", with_type, {"fax-send": OLDER}),
    ("a shape is gone", without_shape("AnyRunStart", "FlatRun"), {"FlatRun": BREAKS}),
    ("a part is renamed", renamed("Tool", "SwarmTool"), {"Tool": PRODUCERS}),
    ("a newer version is read", known_version(2), {"SmsMessage.schemaVersion": OLDER}),
]  # fmt: skip


def found(old: dict[str, Any], new: dict[str, Any]) -> dict[str, frozenset[Effect]]:
    told: dict[str, frozenset[Effect]] = {}
    for each in changes(old, new):
        told[each.where] = told.get(each.where, FINE) | each.effects
    return told


@pytest.mark.parametrize(("edit", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_whom_a_change_breaks(edit: Edit, expected: dict[str, frozenset[Effect]], request: Any) -> None:
    old, new = copy.deepcopy(OLD), copy.deepcopy(OLD)
    edit(new)
    if request.node.callspec.id == "a new field where none was let through":
        old["$defs"]["Tool"]["additionalProperties"] = False
    told = found(old, new)
    match request.node.callspec.id:
        case "a key is no id any more":
            assert set(told.values()) == {BREAKS}
            assert {where.rpartition(".")[2] for where in told} == {"id"}
            shapes = {
                name for name, each in OLD["$defs"].items() if {"$ref": "#/$defs/TaskId"} in each.get("allOf", [])
            }
            assert {where.partition(".")[0] for where in told} == shapes
        case "a newer version is read":
            assert told["SmsMessage.schemaVersion"] == BREAKS | OLDER  # null isn't taken there, in this test
        case "a shape is gone":
            assert told == expected
        case _:
            assert told == expected


def test_a_change_of_a_part_is_told_once_with_every_type_that_has_it() -> None:
    new = copy.deepcopy(OLD)
    field("SessionUser", "id", {"type": "integer"})(new)
    (ahead, *_) = changes(OLD, new)
    assert ahead.tasks == ("llm-completion", "run-start", "sandbox-execution", "swarm-execution")
    assert str(ahead) == (
        "breaks producers and waiting jobs: SessionUser.id: no longer takes a string, but an integer "
        "(llm-completion, run-start, sandbox-execution, swarm-execution)"
    )


def test_what_breaks_comes_first() -> None:
    new = copy.deepcopy(OLD)
    for edit in (
        field("Tool", "a", STRING),
        with_type,
        renamed("TeamConfiguration", "Team"),
        required("Tool", "z", schema=STRING),
    ):
        edit(new)
    assert [(each.where, each.effects) for each in changes(OLD, new)] == [
        ("Tool.z", BREAKS),
        ("TeamConfiguration", PRODUCERS),
        ("Tool.a", WARNS),
        ("fax-send", OLDER),
    ]


def test_another_default_comes_before_a_warning() -> None:
    new = copy.deepcopy(OLD)
    field("Tool", "a", STRING)(new)
    field("EmailSend", "subject", STRING | {"default": "Hello"})(new)
    assert [each.where for each in changes(OLD, new)] == ["EmailSend.subject", "Tool.a"]


def test_a_warning_says_what_is_refused_and_of_which_types() -> None:
    new = copy.deepcopy(OLD)
    field("Tool", "since", {"anyOf": [{"type": "integer"}, NULL]})(new)
    field("Tool", "until", False)(new)
    assert [str(each) for each in changes(OLD, new)] == [
        "warning: Tool.since: is new, and takes an integer or null alone: jobs of producers who already send it "
        "undeclared, otherwise, are refused (swarm-execution)",
        "warning: Tool.until: is new, and must be absent: jobs of producers who already send it "
        "undeclared, otherwise, are refused (swarm-execution)",
    ]


def test_an_alternative_is_compared_with_its_counterpart() -> None:
    """However much has changed in a shape, it isn't taken for another one."""
    new = copy.deepcopy(OLD)
    for name in ("timeout", "status", "userId", "idempotencyKey", "schemaVersion", "context", "options", "allocation"):
        new["$defs"]["RunStart"]["properties"][name] = {"type": "integer"}
    told = found(OLD, new)
    assert set(told) <= {f"RunStart.{name}" for name in new["$defs"]["RunStart"]["properties"]}
    assert "RunStart.runId" not in told


def test_a_long_rule_is_cut() -> None:
    new = copy.deepcopy(OLD)
    field("Tool", "name", STRING | {"pattern": "a" * 500})(new)
    assert len(str(changes(OLD, new)[0])) < 250


def test_a_definition_in_itself_is_compared() -> None:
    tree = {"type": "object", "properties": {"type": {"const": "t"}, "below": {"items": {"$ref": "#/$defs/Tree"}}}}
    old = {"discriminator": {"mapping": {"t": "#/$defs/Tree"}}, "$defs": {"Tree": tree}}
    new = copy.deepcopy(old)
    new["$defs"]["Tree"]["properties"]["type"] = {"const": "u"}  # type: ignore[index]
    assert found(old, old) == {}
    assert found(old, new) == {"Tree.type": ALL}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda new: new.pop("discriminator"), "tells no task types apart"),
        (lambda new: new["discriminator"].update(mapping=[]), "mapping: expected an object"),
        (lambda new: new["discriminator"].update(mapping={"x": 1}), "tells no task types apart"),
        (lambda new: new["discriminator"]["mapping"].update({"sms-message": "#/$defs/No"}), "nothing is defined at"),
        (lambda new: new["$defs"].update(Tool={"$ref": "#/$defs/Tool"}), "Tool refers to itself"),
        (lambda new: new["$defs"].update(Tool=7), "expected a schema, found int"),
        (lambda new: new["$defs"].update(Tool={"type": "tool"}), "'tool' isn't one"),
        (lambda new: new["$defs"].update(Tool={"anyOf": 1}), "anyOf: expected a list"),
        (field("Tool", "name", STRING | {"minLength": "1"}), "minLength: expected a number"),
        (
            lambda new: new["$defs"].update(Tool={"allOf": [{"enum": [*range(40)]}, {"enum": [*range(40)]}]}),
            "more than",
        ),
    ],
)
def test_what_is_no_such_schema_is_not_compared(edit: Edit, message: str) -> None:
    new = copy.deepcopy(OLD)
    edit(new)
    for pair, which in (((OLD, new), "new"), ((new, OLD), "old")):
        with pytest.raises(NotComparable, match=f"^the {which} schema: .*{message}"):
            changes(*pair)

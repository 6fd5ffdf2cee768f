from __future__ import annotations

import json
from typing import Any

import pytest

from workers.wire_schema.doc_comment import doc_comment
from workers.wire_schema.json_schema import SCHEMA_FILE, schema_of, wire_schema
from workers.wire_schema.typescript import TYPESCRIPT_FILE, NoTypeScript, typescript_text


def declared(name: str, definitions: dict[str, Any]) -> str:
    """The declaration of one definition, without `export` and its last line break."""
    text = typescript_text({"oneOf": [], "$defs": definitions})
    return next(part for part in text.split("export ") if f" {name} " in f" {part.splitlines()[0]} ").strip()


def typed(schema: Any) -> str:
    """The type expression of a schema."""
    return declared("X", {"X": schema}).removeprefix("type X =").removesuffix(";").strip()


def test_committed_declarations_are_current() -> None:
    committed = TYPESCRIPT_FILE.read_text(encoding="utf-8")
    assert committed == typescript_text(wire_schema()), "write them: fleet schema typescript --write"


def test_they_are_made_of_the_committed_schema_alone() -> None:
    assert typescript_text(json.loads(SCHEMA_FILE.read_text())) == TYPESCRIPT_FILE.read_text(encoding="utf-8")


def test_one_type_alone_is_declared_whole() -> None:
    text = typescript_text(schema_of("sms-message", wire_schema()))
    assert "export type AnyTask = SmsMessage;" in text
    assert "EmailSend" not in text


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, "unknown"),
        ({}, "unknown"),
        (False, "never"),
        ({"type": "string"}, "string"),
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 'a"b'}, '"a\\"b"'),
        ({"enum": ["a", 1, None, True]}, '"a" | 1 | null | true'),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "(string | null)[]"),
        ({"type": "array"}, "unknown[]"),
        (
            {"type": "array", "prefixItems": [{"type": "string"}, {}], "minItems": 1, "items": False},
            "[string, unknown?]",
        ),
        ({"type": "object"}, "{ [name: string]: unknown }"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "{ [name: string]: number }"),
        ({"anyOf": [{"type": "string"}, {"type": "string"}]}, "string"),
        ({"allOf": [{"$ref": "#/$defs/X"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}]}, "X & (string | null)"),
    ],
)
def test_a_schema_has_its_type(schema: Any, expected: str) -> None:
    assert typed(schema) == expected


def test_an_object_is_an_interface_with_its_names_as_they_are() -> None:
    schema = {
        "properties": {"a-b": {"type": "string"}, "__proto__": {}, "c": False, "ok": {"description": "Yes."}},
        "required": ["a-b"],
    }
    assert declared("X", {"X": schema}) == (
        'interface X {\n  "a-b": string;\n  "__proto__"?: unknown;\n  c?: never;\n  /** Yes. */\n  ok?: unknown;\n}'
    )


def test_what_must_be_there_of_several_is_a_union() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert typed(schema).endswith("} & ({ a: string } | { b: unknown })")


def test_names_are_identifiers_and_differ() -> None:
    text = typescript_text(
        {"oneOf": [], "$defs": {"AnyTask": {}, "a b": {}, "A b": {}, "A_b": {}, "1": {}, "string": {}}}
    )
    for name in ("AnyTask_2", "_a_b", "A_b", "A_b_2", "_1", "_string"):
        assert f"export type {name} = unknown;" in text


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (7, "not a schema"),
        ({"not": {}}, "no words for not"),
        ({"type": "tool"}, "unknown type"),
        ({"$ref": "#/$defs/Y"}, "nothing is defined"),
        ({"$ref": "Y"}, "nothing is defined"),
        ({"const": {}}, "a constant"),
        ({"type": "object", "properties": {"a": {}}, "patternProperties": {}}, "patternProperties"),
    ],
)
def test_what_has_no_words_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(NoTypeScript, match=message):
        typed(schema)


def test_comments_tell_limits_and_cannot_be_left() -> None:
    schema = {
        "description": "Ends */ here.\n\nTwo.",
        "anyOf": [{"type": "string", "pattern": "a*/", "maxLength": 3}, {"type": "null"}],
    }
    assert doc_comment(schema, "  ") == (
        "  /**\n   * Ends *\\/ here.\n   *\n   * Two.\n   * @maxLength 3\n   * @pattern a*\\/\n   */\n"
    )
    assert doc_comment(True, "") == doc_comment({"type": "string"}, "") == ""


def test_comments_leave_out_bounds_that_the_head_tells_and_patterns_too_long_to_read() -> None:
    safe = {"type": "number", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}
    assert doc_comment(safe, "") == ""
    assert doc_comment(safe | {"minimum": 0, "maximum": 9}, "") == "/**\n * @minimum 0\n * @maximum 9\n */\n"
    assert doc_comment({"pattern": "a" * 121}, "") == "/** Its pattern is in schema.json. */\n"
    assert "Number.MAX_SAFE_INTEGER" in typescript_text(wire_schema()).partition("export")[0]


def test_a_mail_is_one_of_two() -> None:
    assert (
        "} & TaskId & (\n"
        "  | { subject: string; text: string; template?: null }\n"
        '  | { template: string; text?: ""; html?: "" | null });\n'
    ) in declared("EmailSend", wire_schema()["$defs"])

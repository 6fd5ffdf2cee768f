"""What a JSON Schema takes, as a list of alternatives without references: so two of them can be compared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

_REF = "#/$defs/"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
#: Says nothing of what is taken. A default does, to who reads the value, and is compared elsewhere.
_NOTES = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "discriminator",
        "$comment",
        "$schema",
        "$id",
        "$defs",
    }
)
_STRUCTURE = frozenset(
    {
        "type",
        "const",
        "enum",
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
    }
)
_NUMBERS = ("integer", "number")
#: What bounds which kind.
_LEAST = {"minimum": _NUMBERS, "exclusiveMinimum": _NUMBERS, "minLength": ("string",), "minItems": ("array",)}
_MOST = {"maximum": _NUMBERS, "exclusiveMaximum": _NUMBERS, "maxLength": ("string",), "maxItems": ("array",)}
#: Other rules that are about one kind alone; a keyword that isn't known here is a rule for every kind.
_RULES = {"pattern": ("string",), "format": ("string",), "multipleOf": _NUMBERS, "uniqueItems": ("array",)}
_HINTS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_KINDS = ("object", "array", "string", "integer", "number")
#: More alternatives than this are no schema of tasks.
_MOST_FORMS = 1000


class NotComparable(ValueError):
    """No schema as `fleet schema json` makes it; the message says why."""


@dataclass(frozen=True)
class Form:
    """One alternative."""

    kind: str
    """`any`, `value` (one constant), or a type of JSON Schema's: object, array, string, integer, number."""
    name: str = ""
    """The definition that it comes from."""
    value: str = ""
    """The constant, in JSON."""
    least: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    """Lower bounds by keyword."""
    most: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    """Upper bounds by keyword."""
    rules: frozenset[tuple[str, str]] = frozenset()
    """What else must hold: keyword and value, in JSON."""
    fields: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    """The schemas of an object's fields."""
    required: frozenset[str] = frozenset()
    rest: Any = True
    """The schema of an object's other fields, or of a list's items."""

    def takes(self, value: str) -> bool:
        """Whether a constant, in JSON, is one of these. Rules of unknown keywords are taken to hold."""
        found = json.loads(value)
        size = found if self.kind in _NUMBERS else len(found) if isinstance(found, str | list) else 0
        fits = {
            "any": True,
            "value": value == self.value,
            "string": isinstance(found, str),
            "number": isinstance(found, int | float) and not isinstance(found, bool),
            "integer": isinstance(found, int) and not isinstance(found, bool),
            "array": isinstance(found, list),
            "object": isinstance(found, dict),
        }[self.kind]
        return fits and self._within(size) and self._matches(found)

    def _within(self, size: float) -> bool:
        over = all(size > n if key.startswith("exclusive") else size >= n for key, n in self.least.items())
        return over and all(size < n if key.startswith("exclusive") else size <= n for key, n in self.most.items())

    def _matches(self, found: Any) -> bool:
        patterns = [json.loads(value) for key, value in self.rules if key == "pattern"]
        try:
            return not isinstance(found, str) or all(re.search(each, found) for each in patterns)
        except (re.error, TypeError):
            raise NotComparable("a pattern that isn't one") from None


class Forms:
    """Finds the alternatives of the schemas of one file.

    Args:
        definitions: what its references refer to.
    """

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._open: list[str] = []
        # By id; each schema is kept, so that its id stays its own.
        self._known: dict[int, tuple[Any, list[Form]]] = {}

    def of(self, schema: Any) -> list[Form]:
        """All alternatives; none where nothing is taken. `oneOf` counts as `anyOf`: those of tasks never overlap.

        Raises:
            NotComparable: not a schema, or a reference that leads nowhere.
        """
        if schema is True or schema is False:
            return [Form("any")] if schema else []
        if not isinstance(schema, dict):
            raise NotComparable(f"expected a schema, found {type(schema).__name__}")
        if id(schema) not in self._known:
            self._known[id(schema)] = (schema, self._found(schema))
        return self._known[id(schema)][1]

    def _found(self, schema: dict[str, Any]) -> list[Form]:
        found = _own(schema)
        if "$ref" in schema:
            found = _meet_all(found, self._referred(schema["$ref"]))
        for part in listed(schema, "allOf"):
            found = _meet_all(found, [replace(each, name="") for each in self.of(part)])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                found = _meet_all(found, [form for each in listed(schema, key) for form in self.of(each)])
        return found

    def _referred(self, reference: Any) -> list[Form]:
        name = str(reference).removeprefix(_REF)
        if not str(reference).startswith(_REF) or name not in self._definitions:
            raise NotComparable(f"nothing is defined at {str(reference)[:80]!r}")
        if name in self._open:
            raise NotComparable(f"{name} refers to itself")
        self._open.append(name)
        found = self.of(self._definitions[name])
        self._open.pop()
        return [form if form.name else replace(form, name=name) for form in found]


def listed(schema: Mapping[str, Any], key: str) -> list[Any]:
    """A keyword's list; empty without it."""
    found = schema.get(key, [])
    if not isinstance(found, list):
        raise NotComparable(f"{key}: expected a list, found {type(found).__name__}")
    return found


def mapped(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A keyword's object; empty without it."""
    found = schema.get(key, {})
    if not isinstance(found, dict):
        raise NotComparable(f"{key}: expected an object, found {type(found).__name__}")
    return found


def json_of(value: Any) -> str:
    """The same text for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _own(schema: dict[str, Any]) -> list[Form]:
    """What a schema says itself, apart from what it refers to and combines."""
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else listed(schema, "type")
    if not kinds:
        kinds = [kind for kind, keys in _HINTS.items() if not schema.keys().isdisjoint(keys)]
    found = [form for kind in kinds for form in _of_kind(kind, schema)] or [Form("any", rules=_rules("any", schema))]
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else listed(schema, "enum")
        return _meet_all([Form("value", value=text) for text in dict.fromkeys(map(json_of, values))], found)
    return found


def _of_kind(kind: Any, schema: dict[str, Any]) -> list[Form]:
    if kind in ("null", "boolean"):
        return [Form("value", value=value) for value in (["null"] if kind == "null" else ["false", "true"])]
    if kind not in _KINDS:
        raise NotComparable(f"type: {str(kind)[:80]!r} isn't one")
    made = Form(
        kind,
        least=_bounds(kind, schema, _LEAST),
        most=_bounds(kind, schema, _MOST),
        rules=_rules(kind, schema),
        rest=schema.get({"array": "items", "object": "additionalProperties"}.get(kind, ""), True),
    )
    if kind == "object":
        required = [name for name in listed(schema, "required") if isinstance(name, str)]
        return [replace(made, fields=mapped(schema, "properties"), required=frozenset(required))]
    return [made]


def _bounds(kind: str, schema: dict[str, Any], keys: Mapping[str, Iterable[str]]) -> dict[str, float]:
    found = {key: schema[key] for key, kinds in keys.items() if key in schema and kind in kinds}
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise NotComparable(f"{key}: expected a number")
    return found


def _rules(kind: str, schema: dict[str, Any]) -> frozenset[tuple[str, str]]:
    other = schema.keys() - _NOTES - _STRUCTURE - _LEAST.keys() - _MOST.keys()
    mine = [key for key in other if kind in _RULES.get(key, (kind,)) and schema[key] is not False]
    return frozenset((key, json_of(schema[key])) for key in mine)


def _meet_all(left: list[Form], right: list[Form]) -> list[Form]:
    if len(left) * len(right) > _MOST_FORMS:
        raise NotComparable(f"more than {_MOST_FORMS} alternatives")
    both = [_meet(one, other) for one in left for other in right]
    return [each for each in both if each is not None]


def _meet(left: Form, right: Form) -> Form | None:
    """What both take; None where that is nothing."""
    if left.kind == "any" or right.kind == "any":
        other = right if left.kind == "any" else left
        return replace(other, name=left.name or right.name, rules=left.rules | right.rules)
    if "value" in (left.kind, right.kind):
        constant, other = (left, right) if left.kind == "value" else (right, left)
        both = replace(constant, name=left.name or right.name, rules=left.rules | right.rules)
        return both if other.takes(constant.value) else None
    kinds = {left.kind, right.kind}
    if len(kinds) > 1 and kinds != set(_NUMBERS):
        return None
    return Form(
        "integer" if "integer" in kinds else left.kind,
        name=left.name or right.name,
        least={
            key: max(each.get(key, -math.inf) for each in (left.least, right.least))
            for key in left.least.keys() | right.least.keys()
        },
        most={
            key: min(each.get(key, math.inf) for each in (left.most, right.most))
            for key in left.most.keys() | right.most.keys()
        },
        rules=left.rules | right.rules,
        fields={**left.fields, **right.fields, **_shared(left.fields, right.fields)},
        required=left.required | right.required,
        rest=_both(left.rest, right.rest),
    )


def _shared(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _both(left[name], right[name]) for name in left.keys() & right.keys()}


def _both(left: Any, right: Any) -> Any:
    if left is True or left == right:
        return right
    return left if right is True else {"allOf": [left, right]}

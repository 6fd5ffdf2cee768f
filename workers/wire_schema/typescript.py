"""TypeScript of the wire, generated from its JSON Schema: for producers, who find a mistake when they compile.

`tasks/fleet-tasks.d.ts` is this, committed and shipped; `fleet schema typescript --check` says whether it is current.

Decisions:
- An object that declares fields gets no index signature, although more are allowed on the wire: with one, a misspelt
  name would compile. One that declares none (`formValues`) is a map.
- What TypeScript can't say (limits, patterns, a list that may not be empty) is told in comments.
- A task has an id or an idempotency key (`TaskId`); the object before `&` declares both as optional.
- `integer` is `number`; whatever may be anything is `unknown`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasks
from workers.wire_schema.doc_comment import doc_comment

#: The committed declarations. They ship with the tasks.
TYPESCRIPT_FILE = Path(tasks.__file__).with_name("fleet-tasks.d.ts")

_HEAD = """\
// Generated from the models in tasks/ by `fleet schema typescript --write`; not edited by hand.
// What types can't say is in comments. A number without bounds there is one that JavaScript holds exactly: at most
// Number.MAX_SAFE_INTEGER, at least Number.MIN_SAFE_INTEGER.
"""
_TYPES = """\
/** What `data.type` may be. */
export type TaskType = AnyTask["type"];

/** The data of a job of one type: `TaskOf<"email-send">`. */
export type TaskOf<T extends TaskType> = Extract<AnyTask, { type: T }>;
"""
#: Names that the declarations above use, and those of TypeScript that they need.
_TAKEN = ("AnyTask", "TaskType", "TaskOf", "Extract")
_NAMES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
#: What would change a type if it had words here.
_STRUCTURAL = frozenset({"not", "if", "unevaluatedProperties", "unevaluatedItems", "dependentSchemas", "$dynamicRef"})
_REF = "#/$defs/"


class NoTypeScript(ValueError):
    """The schema has something that these declarations have no words for."""


def typescript_text(schema: Mapping[str, Any]) -> str:
    """The declarations of a schema made by `wire_schema`, as they are committed.

    Raises:
        NoTypeScript: a keyword or a reference that isn't known here.
    """
    return _Declarations(schema.get("$defs", {})).text(schema)


@dataclass(frozen=True)
class _Type:
    """A type expression."""

    text: str
    sign: str = ""
    """What joins its parts: `|` or `&`. Empty: it has one."""

    def among(self, sign: str) -> str:
        """As a part of an expression that has this sign."""
        return self.text if self.sign in ("", sign) else f"({self.text})"

    @property
    def assigned(self) -> str:
        """As what stands after `=` or `:`, with the space between them."""
        return self.text if self.text.startswith("\n") else f" {self.text}"


_UNKNOWN = _Type("unknown")
_NEVER = _Type("never")


def _joined(types: Iterable[_Type], sign: str, indent: str) -> _Type:
    """A union (`|`) or an intersection (`&`); a long union has a line for each."""
    parts = list({each.among(sign): each for each in types}.values())
    if len(parts) <= 1:
        return parts[0] if parts else _NEVER
    line = f" {sign} ".join(each.among(sign) for each in parts)
    if sign == "|" and (len(indent) + len(line) > 90 or "\n" in line):
        line = "".join(f"\n{indent}  | {each.among(sign)}" for each in parts)
    return _Type(line, sign)


class _Declarations:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._names = _identifiers(definitions)

    def text(self, root: Mapping[str, Any]) -> str:
        first = [_target(each) for each in root.get("oneOf", ())]
        tasks = [name for top in first for name in (self._shapes(top) or [top])]
        order = sorted(self._definitions, key=lambda name: (name not in first, name not in tasks, name))
        parts = [_HEAD, self._declared("AnyTask", dict(root)), _TYPES]
        parts += [self._declared(self._names[name], self._definitions[name]) for name in order]
        return "\n".join(parts)

    def _shapes(self, name: str) -> list[str]:
        union = self._definitions.get(name)
        return [_target(each) for each in union.get("oneOf", ())] if isinstance(union, dict) else []

    def _declared(self, name: str, schema: Any) -> str:
        comment = doc_comment(schema, "")
        if isinstance(schema, dict) and schema.get("properties") and not _combined(schema):
            return f"{comment}export interface {name} {self._object(schema, '').text}\n"
        return f"{comment}export type {name} ={self._type(schema, '').assigned};\n"

    def _type(self, schema: Any, indent: str) -> _Type:
        """What a schema allows; `indent` is that of the line it stands in."""
        if isinstance(schema, bool):
            return _UNKNOWN if schema else _NEVER
        if not isinstance(schema, dict):
            raise NoTypeScript(f"not a schema: {_short(schema)}")
        if unknown := schema.keys() & _STRUCTURAL:
            raise NoTypeScript(f"no words for {', '.join(sorted(unknown))}")
        parts = [self._named(schema["$ref"])] if "$ref" in schema else []
        if "const" in schema or "enum" in schema:
            parts.append(_literals([schema["const"]] if "const" in schema else schema["enum"], indent))
        elif "type" in schema or schema.keys() & {"properties", "items", "prefixItems"}:
            parts.append(self._plain(schema, indent))
        parts += [self._type(each, indent) for each in schema.get("allOf", ())]
        parts += [self._union(schema, key, indent) for key in ("anyOf", "oneOf") if key in schema]
        return _joined(parts, "&", indent) if parts else _UNKNOWN

    def _named(self, reference: Any) -> _Type:
        name = str(reference).removeprefix(_REF).replace("~1", "/").replace("~0", "~")
        if name not in self._names or not str(reference).startswith(_REF):
            raise NoTypeScript(f"nothing is defined at {_short(reference)}")
        return _Type(self._names[name])

    def _plain(self, schema: dict[str, Any], indent: str) -> _Type:
        kinds = schema.get("type", "object" if "properties" in schema else "array")
        each = [kinds] if isinstance(kinds, str) else kinds
        return _joined((self._kind(kind, schema, indent) for kind in each), "|", indent)

    def _kind(self, kind: Any, schema: dict[str, Any], indent: str) -> _Type:
        if kind == "object":
            return self._object(schema, indent) if schema.get("properties") else self._map(schema, indent)
        if kind == "array":
            return self._array(schema, indent)
        if kind not in _NAMES:
            raise NoTypeScript(f"unknown type {_short(kind)}")
        return _Type(_NAMES[kind])

    def _object(self, schema: dict[str, Any], indent: str) -> _Type:
        if "patternProperties" in schema:
            raise NoTypeScript("no words for patternProperties beside properties")
        inner, required = indent + "  ", schema.get("required", ())
        lines = [
            f"{doc_comment(each, inner)}{inner}{self._field(name, each, name in required, inner)};\n"
            for name, each in schema["properties"].items()
        ]
        return _Type("{\n" + "".join(lines) + indent + "}")

    def _field(self, name: str, schema: Any, required: bool, indent: str) -> str:
        return f"{_key(name)}{'' if required else '?'}:{self._type(schema, indent).assigned}"

    def _map(self, schema: dict[str, Any], indent: str) -> _Type:
        values = [schema.get("additionalProperties", True), *schema.get("patternProperties", {}).values()]
        value = _joined((self._type(each, indent) for each in values if each is not False), "|", indent)
        return _Type(f"{{ [name: string]:{value.assigned} }}")

    def _array(self, schema: dict[str, Any], indent: str) -> _Type:
        item = self._type(schema.get("items", True), indent)
        more = item.among("[]") + "[]"
        first = [self._type(each, indent).among("[]") for each in schema.get("prefixItems", ())]
        if not first:
            return _Type(more)
        least = schema.get("minItems", 0)
        places = [each if place < least else f"{each}?" for place, each in enumerate(first)]
        rest = [] if item == _NEVER else [f"...{more}"]
        return _Type(f"[{', '.join(places + rest)}]")

    def _union(self, schema: dict[str, Any], key: str, indent: str) -> _Type:
        base = schema.get("properties", {})
        return _joined(
            (self._refined(each, base) if _refines(each) else self._type(each, indent) for each in schema[key]),
            "|",
            indent,
        )

    def _refined(self, branch: dict[str, Any], base: dict[str, Any]) -> _Type:
        """What a branch adds to the fields that all have: which ones must be there, and what else they are."""
        properties, required = branch.get("properties", {}), branch.get("required", ())
        fields = [
            self._field(name, properties.get(name, base.get(name, True)), name in required, "")
            for name in dict.fromkeys([*required, *properties])
        ]
        return _Type(f"{{ {'; '.join(fields)} }}" if fields else "unknown")


def _target(schema: Any) -> str:
    """The definition that a schema refers to; empty if it doesn't."""
    return str(schema.get("$ref", "")).removeprefix(_REF) if isinstance(schema, dict) else ""


def _combined(schema: dict[str, Any]) -> bool:
    return not schema.keys().isdisjoint(("$ref", "allOf", "anyOf", "oneOf", "const", "enum"))


def _refines(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema) and schema.keys() <= {"required", "properties"}


def _literals(values: Iterable[Any], indent: str) -> _Type:
    found = []
    for value in values:
        if isinstance(value, dict | list):
            raise NoTypeScript(f"a constant that isn't a single value: {_short(value)}")
        found.append(_Type(json.dumps(value)))
    return _joined(found, "|", indent)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", name) and name != "__proto__" else json.dumps(name)


def _identifiers(names: Iterable[str]) -> dict[str, str]:
    """A name in TypeScript for each definition, all different. Its own words are all in small letters."""
    found: dict[str, str] = {}
    used = set(_TAKEN)
    for name in sorted(names):
        base = re.sub(r"[^A-Za-z0-9_$]", "_", name)
        if not base or base[0].isdigit() or base[0].islower():
            base = f"_{base}"
        number = 2
        wanted = base
        while wanted in used:
            wanted, number = f"{base}_{number}", number + 1
        used.add(wanted)
        found[name] = wanted
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"

"""The JSON Schema of fleet.yaml, for editors: the models' own, plus `${…}` wherever a single value stands.

`config/schema.json` is this, committed; `fleet config schema --check` says whether it is current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from config.schema import FleetConfig
from config.units import HUMAN, Backoff, Keep, Rate

#: The committed schema, which fleet.yaml names in its first line.
SCHEMA_FILE = Path(__file__).with_name("schema.json")

_VARIABLE = {
    "title": "From the environment",
    "type": "string",
    "pattern": r"(^|[^$])\$\{[A-Za-z_]",
    "description": "${VAR} or ${VAR:-default}, also within a longer text.",
}
_NOTES = ("title", "description", "default", "examples")
_SINGLE = {"string", "integer", "number", "boolean"}


class _Generator(GenerateJsonSchema):
    """Writes defaults in human form."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", context=HUMAN)
        if isinstance(dft, Rate | Keep | Backoff):
            return str(dft)
        return super().encode_default(dft)


def fleet_schema() -> dict[str, Any]:
    """Build the JSON Schema (draft 2020-12) of fleet.yaml."""
    schema = FleetConfig.model_json_schema(schema_generator=_Generator)
    definitions = {name: _open(definition) for name, definition in schema.pop("$defs").items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fleet.yaml",
        **{key: value for key, value in _open(schema).items() if key != "title"},
        "$defs": definitions | {"Variable": _VARIABLE},
    }


def fleet_schema_text() -> str:
    """The content of `schema.json`."""
    return json.dumps(fleet_schema(), indent=2, ensure_ascii=False) + "\n"


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose single values may also be `${…}`; what only serves our error messages is left out."""
    opened: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("x-expected", "discriminator"):
            continue
        if key == "properties":
            opened[key] = {name: _variable(_open(below)) for name, below in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            opened[key] = _variable(_open(value))
        elif key in ("anyOf", "oneOf"):
            opened[key] = [_open(below) for below in value]
        else:
            opened[key] = value
    return opened


def _variable(schema: dict[str, Any]) -> dict[str, Any]:
    """Accept `${…}` beside a single value. A plain text does so already; a tag that picks a mapping must not."""
    notes = {key: schema[key] for key in _NOTES if key in schema}
    branches = list(_branches({key: value for key, value in schema.items() if key not in notes}, notes))
    single = any(branch.get("type") in _SINGLE and "const" not in branch for branch in branches)
    if not single or any(branch == {"type": "string"} for branch in branches):
        return schema
    return notes | {"anyOf": [*branches, {"$ref": "#/$defs/Variable"}]}


def _branches(schema: dict[str, Any], notes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The alternatives of a schema on one level; their examples join the notes."""
    if "examples" in schema:
        notes.setdefault("examples", schema["examples"])
        schema = {key: value for key, value in schema.items() if key != "examples"}
    if set(schema) in ({"anyOf"}, {"oneOf"}):
        for branch in schema.get("anyOf") or schema["oneOf"]:
            yield from _branches(branch, notes)
    else:
        yield schema

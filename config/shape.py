"""What a pydantic model accepts at each place, read off its JSON Schema: keys, kinds and bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

_KINDS = {
    "string": "text",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "null",
}


def _listed(names: list[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _bounded(noun: str, schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{noun} from {low} to {high}"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "of at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "of at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return " ".join([noun, " and ".join(bounds)]) if bounds else noun


def _words(schema: Mapping[str, Any]) -> str:
    if "x-expected" in schema:
        return str(schema["x-expected"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return _listed([str(choice) for choice in schema["enum"]], "or")
    if schema.get("format", "password") != "password":
        return ""
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _bounded("an integer" if kind == "integer" else "a number", schema)
    return _KINDS.get(str(kind), "")


@dataclass(frozen=True, slots=True)
class Shape:
    """The alternatives that one place accepts."""

    schemas: tuple[Mapping[str, Any], ...]
    defs: Mapping[str, Any]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Self:
        """The shape of a whole model. Nothing is known of one that has no JSON Schema."""
        try:
            schema = model.model_json_schema()
        except PydanticInvalidForJsonSchema:
            schema = {}
        return cls((schema,), schema.get("$defs", {}))._flat()

    def _flat(self) -> Self:
        return replace(self, schemas=tuple(self._alternatives(self.schemas)))

    def _alternatives(self, schemas: tuple[Mapping[str, Any], ...]) -> Iterator[Mapping[str, Any]]:
        for schema in schemas:
            if "$ref" in schema:
                yield from self._alternatives((self.defs.get(schema["$ref"].rpartition("/")[2], {}),))
            elif "x-expected" not in schema and ("anyOf" in schema or "oneOf" in schema):
                yield from self._alternatives(tuple(schema.get("anyOf") or schema["oneOf"]))
            else:
                yield schema

    def below(self, key: str | int) -> Self:
        """The shape under one key."""
        found: list[Mapping[str, Any]] = []
        for schema in self.schemas:
            if isinstance(key, int):
                items = schema.get("items", {})
            else:
                items = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(items, Mapping):
                found.append(items)
        return replace(self, schemas=tuple(found))._flat()

    def at(self, path: tuple[str | int, ...]) -> Self:
        """The shape at a path."""
        shape = self
        for key in path:
            shape = shape.below(key)
        return shape

    def tagged(self, tag: str, value: Any) -> Self:
        """Only the alternatives whose `tag` has this value; all, if none has."""
        fitting = tuple(
            schema for schema in self.schemas if schema.get("properties", {}).get(tag, {}).get("const", value) == value
        )
        return replace(self, schemas=fitting or self.schemas)

    @property
    def names(self) -> list[str]:
        """The keys that the model names here."""
        return list(dict.fromkeys(key for schema in self.schemas for key in schema.get("properties", {})))

    @property
    def open(self) -> bool:
        """Whether any key, and anything under it, is accepted."""
        return not self.schemas or any(
            not schema or schema.get("additionalProperties") is True for schema in self.schemas
        )

    @property
    def container(self) -> bool:
        """Whether a mapping or a list is accepted."""
        return any(schema.get("type") in ("object", "array") for schema in self.schemas)

    @property
    def nullable(self) -> bool:
        """Whether null is accepted."""
        return any(schema.get("type") == "null" for schema in self.schemas)

    @property
    def secret(self) -> bool:
        """Whether the model itself calls this a secret (pydantic's SecretStr)."""
        return any(schema.get("writeOnly") is True for schema in self.schemas)

    @property
    def expected(self) -> str:
        """What is accepted, in words; empty where the schema doesn't say."""
        words = [_words(schema) for schema in self.schemas if schema.get("type") != "null"]
        return "" if "" in words or not words else _listed(list(dict.fromkeys(words)), "or")

"""The JSON Schema (draft 2020-12) of every task as it is on the wire: names in camelCase, unknown fields allowed.

`tasks/schema.json` is this, committed and shipped; `fleet schema json --check` says whether it is current.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

import tasks
from tasks.base import Envelope, Task
from workers.wire_schema.descriptions import Descriptions
from workers.wire_schema.shapes import Shape, TaskShapes, task_shapes

Schema: TypeAlias = dict[str, Any]

#: The committed schema. It ships with the tasks.
SCHEMA_FILE = Path(tasks.__file__).with_name("schema.json")

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMMENT = "Generated from the models in tasks/ by `fleet schema json --write`; not edited by hand."
_ABOUT = "The data of a job, told apart by `type`."
_REF = "#/$defs/"
_STRING: Schema = {"type": "string"}


def wire_schema(types: Mapping[str, type[Task]] | None = None) -> Schema:
    """Build the schema of AnyTask, with a definition of each task, of its older shapes and of their parts.

    A task that also has older shapes is a union of them called `Any…`; each older shape is marked as deprecated.
    `schemaVersion` goes as far as the task's model can read.

    Args:
        types: the models by what `data.type` carries. None: those of `tasks`.

    Raises:
        TypeError: a task's `shape_of` doesn't know one of its shapes, or a model is called TaskId.
    """
    found = task_shapes(tasks.TASKS if types is None else types)
    models = [shape.model for each in found for shape in (each.newest, *each.older)]
    names, definitions = _definitions(models)
    if "TaskId" in definitions:
        raise TypeError("TaskId is the schema's own name for what a task is known by")
    mapping: dict[str, str] = {}
    for each in found:
        for shape in (each.newest, *each.older):
            _complete(definitions[names[shape.model]], each, shape)
        mapping[each.name] = _REF + names[each.task]
        if each.older:
            union = f"Any{names[each.task]}"
            definitions[union] = _union(each, union, [names[shape.model] for shape in (each.newest, *each.older)])
            mapping[each.name] = _REF + union
    return {
        "$schema": DIALECT,
        "$comment": _COMMENT,
        "title": "AnyTask",
        "description": _ABOUT,
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
        "$defs": dict(sorted((definitions | {"TaskId": _task_id(_STRING)}).items())),
    }


def _task_id(rule: Schema) -> Schema:
    """What `decode` takes for the id of a task: Node's, or the key that its job is known by, by the id's own rule."""
    return {
        "description": "What a task is known by: its id, or an idempotency key, which then is the id.",
        "anyOf": [
            {"required": ["id"], "properties": {"id": _STRING}},
            {"required": ["idempotencyKey"], "properties": {"idempotencyKey": rule}},
        ],
    }


def schema_of(name: str, whole: Schema) -> Schema:
    """The part of a schema made by `wire_schema` that describes one task type.

    Raises:
        KeyError: there is no such type in it.
    """
    reference = whole["discriminator"]["mapping"][name]
    needed, todo = {}, [reference]
    while todo:
        key = todo.pop().removeprefix(_REF)
        if key not in needed:
            needed[key] = whole["$defs"][key]
            todo.extend(_references(needed[key]))
    return {"$schema": DIALECT, "$comment": _COMMENT, "$ref": reference, "$defs": dict(sorted(needed.items()))}


def schema_text(schema: Schema) -> str:
    """A schema as it is committed."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Adds the docstrings of fields, and leaves out what says nothing: titles of fields, null as the default."""

    describe: Descriptions

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        if text := self.describe.of_model(model):
            made["description"] = text
        else:
            made.pop("description", None)
        for name, field in model.model_fields.items():
            below = made["properties"].get(field.alias or name, {})
            if "default" in below and below["default"] is None:
                del below["default"]
            if (text := self.describe.of_field(model, name)) and "description" not in below:
                below["description"] = text
        return made


def _definitions(models: Iterable[type[Envelope]]) -> tuple[dict[type[Envelope], str], dict[str, Schema]]:
    """The name of each model's definition, and all definitions with those of their parts."""
    wanted = list(dict.fromkeys(models))
    generator = type("_Generator", (_Generator,), {"describe": Descriptions(_with_parts(wanted))})
    references, whole = models_json_schema(
        [(model, "validation") for model in wanted], by_alias=True, schema_generator=generator
    )
    names = {model: str(references[model, "validation"]["$ref"]).removeprefix(_REF) for model in wanted}
    return names, whole.get("$defs", {})


def _with_parts(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {}
    todo: list[Any] = list(models)
    while todo:
        kind = todo.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in found:
                found[kind] = None
                todo.extend(field.annotation for field in kind.model_fields.values())
        else:
            todo.extend(getattr(kind, "__args__", ()))
    return list(found)


def _complete(definition: Schema, task: TaskShapes, shape: Shape) -> None:
    """Say what `decode` makes sure of beside the model: the type is there, and an id or what is taken for it; the
    version is known, the shape is this one.
    """
    properties = definition["properties"]
    properties["type"] = {"const": task.name, "type": "string"} | _notes(properties["type"])
    if version := properties.get("schemaVersion"):
        readable = {"type": "integer", "minimum": 1, "maximum": task.task.KNOWN_SCHEMA}
        properties["schemaVersion"] = {"anyOf": [readable, {"type": "null"}]} | _notes(version)
    required = definition.get("required", [])
    definition["required"] = ["type", *(name for name in required if name not in ("type", "id"))]
    rule = {key: value for key, value in properties["id"].items() if key != "description"}
    known_by = {"$ref": f"{_REF}TaskId"} if rule == _STRING else _task_id(rule)
    definition["allOf"] = [*definition.get("allOf", ()), known_by]
    for name in shape.absent:
        properties[name] = False
    if shape is not task.newest:
        definition["deprecated"] = True


def _notes(schema: Schema) -> Schema:
    return {key: schema[key] for key in ("description",) if key in schema}


def _union(task: TaskShapes, title: str, names: list[str]) -> Schema:
    return {
        "title": title,
        "description": f"The data of a job of type `{task.name}`, in any of its shapes.",
        "oneOf": [{"$ref": _REF + name} for name in names],
    }


def _references(schema: Any) -> Iterator[str]:
    todo = [schema]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)

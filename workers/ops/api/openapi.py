"""The API's document: OpenAPI 3.1, made of the operations themselves, so it can't say what the server doesn't do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from workers.ops.api.operation import NoBody, Operation
from workers.ops.api.problem import CONTENT_TYPE

#: What each operation may answer beside its own: status → what it means.
_PROBLEMS = {
    401: "no token, or a wrong or expired one",
    403: "the token's role does not include it, or the CSRF token or the page's origin is wrong",
    404: "no such queue, job or schedule",
    409: "it is not in a state that allows it; nothing was changed",
    413: "larger than api.max_body",
    415: "not JSON",
    422: "the request is wrong; `field` says where",
    429: "too many requests, or the queue is full; `Retry-After` says when to ask again",
    503: "Redis does not answer; the detail says whether anything was changed",
}
_PATH_NAMES = {
    "queue": "The queue's name.",
    "job": "The job's id, percent-encoded.",
    "task": "A task's id or a job's, percent-encoded.",
    "schedule": "The schedule's id, percent-encoded.",
}


def document(operations: Iterable[Operation], root: str) -> dict[str, Any]:
    """The whole document.

    Args:
        root: what all paths begin with, `/api/v1`.
    """
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for operation in operations:
        place = paths.setdefault(f"{root}{operation.path}", {})
        place[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fleet",
            "version": version("fleet-workers"),
            "description": "Look at BullMQ queues, and act on their jobs.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "fleet_session"},
            },
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path(operation.path), *_query(operation, schemas)],
        "responses": _responses(operation),
        "security": [] if operation.role is None else [{"token": []}, {"session": []}],
    }
    if operation.role is not None:
        told["description"] = f"For the role {operation.role}."
    if operation.body is not NoBody:
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(operation.body, schemas)}},
        }
    return told


def _path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_NAMES.get(name, ""),
            "schema": {"type": "string", "minLength": 1, "maxLength": 512},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema = _inline(operation.query, schemas)
    needed = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in needed,
            "description": field.pop("description", ""),
            "schema": field,
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    content_type = "text/event-stream" if operation.tag == "events" else "application/json"
    good: dict[str, Any] = {"description": "As asked."}
    if operation.status != 204:
        good["content"] = {content_type: {"schema": dict(operation.answer)}}
    problems = {401, 403, 422, 429, 503} | set(operation.problems)
    if operation.method in ("POST", "PUT", "PATCH"):
        problems |= {413, 415}
    return {
        str(operation.status): good,
        **{
            str(status): {
                "description": _PROBLEMS[status],
                "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            for status in sorted(problems)
        },
    }


def _inline(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    return schema


def _schema(model: Any, schemas: dict[str, Any]) -> Mapping[str, Any]:
    schemas[model.__name__] = _inline(model, schemas)
    return {"$ref": f"#/components/schemas/{model.__name__}"}


_PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457.",
    "required": ["type", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The reason, for programs."},
        "detail": {"type": "string", "description": "The reason, for people: one line."},
        "field": {"type": "string", "description": "What of the request is wrong."},
    },
}

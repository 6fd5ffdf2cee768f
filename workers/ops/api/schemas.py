"""JSON Schema of the answers: what a client may rely on. Further fields may come."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}
_COUNT, _NUMBER = {"type": "integer", "minimum": 0}, {"type": "number"}


def _maybe(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "required": sorted(fields), "properties": dict(fields)}


def one(schema: Schema) -> Schema:
    """One of these."""
    return schema


def listing(name: str, schema: Schema) -> Schema:
    """A list of these under this name, and perhaps a cursor for the next page."""
    return {
        "type": "object",
        "required": [name],
        "properties": {name: {"type": "array", "items": schema}, "cursor": _maybe("string"), "lookedAt": _COUNT},
    }


def named(function: Callable[..., Any]) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


_COUNTED = ("waiting", "paused", "prioritized", "delayed", "active", "waiting-children", "completed", "failed")

ANSWERS: Mapping[str, Schema] = {
    "health": _object(status={"enum": ["ok", "degraded", "down"]}, redis=_FLAG, problems={"type": "array"}),
    "queue": _object(
        queueName=_TEXT, **dict.fromkeys(_COUNTED, _COUNT), due=_COUNT, backlog=_COUNT, isPaused=_FLAG, configured=_FLAG
    ),
    "throughput": _object(queueName=_TEXT),
    "job": _object(
        id=_TEXT,
        name=_TEXT,
        queueName=_TEXT,
        state=_TEXT,
        attemptsMade=_COUNT,
        timestamp=_maybe("integer"),
        failedReason=_maybe("string"),
        stacktrace={"type": "array", "items": _TEXT},
        opts={"type": "object"},
    ),
    "logs": _object(lines={"type": "array", "items": _TEXT}, total=_COUNT),
    "task": _object(id=_TEXT),
    "status": _object(id=_TEXT, status=_maybe("string")),
    "act": _object(
        action=_TEXT,
        queue=_TEXT,
        matched=_COUNT,
        done=_COUNT,
        dryRun=_FLAG,
        skipped={"type": "object"},
        jobIds={"type": "array", "items": _TEXT},
        more=_FLAG,
    ),
    "change": _object(taskId=_TEXT, status=_TEXT, outcome=_TEXT, queue=_maybe("string"), jobId=_maybe("string")),
}

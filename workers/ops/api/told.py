"""Reports as JSON: their fields in camelCase."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pydantic.alias_generators import to_camel

from workers.queue_service.report import ActReport
from workers.queue_service.task_status import StatusChange


def told(report: ActReport | StatusChange) -> dict[str, Any]:
    """What came of an act."""
    return {to_camel(each.name): _plain(getattr(report, each.name)) for each in fields(report)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if hasattr(value, "items") else value

"""Checks that stop at the first wrong member of each list and object: as many errors as a model has fields, at most."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

_HOLDERS = frozenset({"list", "tuple", "set", "frozenset", "dict"})


@cache
def fail_fast(model: type[BaseModel]) -> SchemaValidator:
    """A validator of the model that takes and refuses the same data, and tells less of what is wrong with them.

    For finding words alone: what it makes of valid data may differ in its defaults.
    """
    # Models within keep validators of their own, which pydantic would take instead of what is said here.
    return SchemaValidator(_hurried(model.__pydantic_core_schema__), _use_prebuilt=False)


def _hurried(schema: Any) -> Any:
    """A copy of pydantic's description of a model. It is no deeper than the model's own source."""
    if isinstance(schema, list):
        return [_hurried(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: _hurried(value) for key, value in schema.items()}
    kind = copy.get("type")  # of a mapping of fields, whatever is called so
    return copy | {"fail_fast": True} if isinstance(kind, str) and kind in _HOLDERS else copy

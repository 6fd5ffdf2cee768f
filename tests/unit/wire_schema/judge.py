"""A validator of JSON Schema whose patterns mean what they mean in JavaScript, as the standard says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend


def _pattern(_: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # Python's `$` also matches before a line break at the end; that of JavaScript doesn't.
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


#: For patterns in which `$` is the end, as those of the tasks are.
Judge: Any = extend(Draft202012Validator, {"pattern": _pattern})

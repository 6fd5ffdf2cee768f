"""Lists of which the first wrong member is enough."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

from pydantic import Field

ItemT = TypeVar("ItemT")

Many: TypeAlias = Annotated[list[ItemT], Field(fail_fast=True)]
"""A list that is refused at its first wrong member: a producer errs in all of them alike, and pydantic needs 1 kB for
each error, so that 4 MB of hostile data would take gigabytes."""

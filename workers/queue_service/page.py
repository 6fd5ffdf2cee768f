"""One page of a longer list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

#: The most items of one page.
MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """Some items, and how to ask for the next ones."""

    items: tuple[ItemT, ...]
    cursor: str | None = None
    """Opaque; for the next page. None: this was the last one. A page of a filtered list may be empty and yet not last,
    since one request looks through a bounded number of jobs."""
    looked_at: int = 0
    """Jobs that were looked through for it."""

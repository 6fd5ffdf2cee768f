"""The task of queue `hostile`: what its processor is to do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from tasks.base import Task


class Hostile(Task):
    """One thing to do, by its name in acts.py."""

    type: Literal["hostile"] = "hostile"
    id: str = "1"
    act: str
    args: dict[str, Any] = Field(default_factory=dict)


class HostileOptions(BaseModel):
    """How the module itself behaves."""

    refuses: str = ""
    """It can't be opened, for this reason."""
    refuse_file: str = ""
    """It can't be opened while this file exists."""
    dies_file: str = ""
    """Its process ends while it opens, as long as this file exists."""
    opens_in_s: float = 0.0
    ends_in_s: float = 0.0
    """How long it takes to close."""
    helper: bool = False
    """It has a process of its own for as long as it is open."""
    token: str = "none"
    """Told by the act `told`."""
    note_file: str = ""
    """Gets a line when it is opened and when it is closed."""

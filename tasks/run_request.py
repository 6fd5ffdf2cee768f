"""What is to be run: the `input` of Node's request."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tasks.base import Part
from tasks.run_config import RunConfig


class RunInput(Part):
    """One run of a routine, new or resumed."""

    run_id: str
    """`run-<nanoid>`, or a snowflake."""
    resource_version_id: str
    is_new_run: bool
    """false: the run exists, and goes on where it stopped."""
    config: RunConfig | None = None
    form_values: dict[str, Any] | None = None
    """The routine's inputs, by their names."""
    run_from: str | None = Field(
        default=None, examples=["Api", "Bot", "Chat", "RunView", "Schedule", "Test", "Webhook"]
    )
    """What has started it; see `tasks.priority`. Another word counts as none."""
    started_by_id: str | None = None
    """The user who has."""
    status: str | None = None
    """The run's own state when the job was added."""

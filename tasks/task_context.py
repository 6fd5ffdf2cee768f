"""What a user has attached to a message, for the bot that answers it."""

from __future__ import annotations

from typing import Any

from tasks.base import Part


class TemplateVariables(Part):
    """What the placeholders of a template are called."""

    data: str | None = None
    task: str | None = None


class TaskContext(Part):
    """One attachment: any data, and perhaps how to put it into words."""

    id: str
    label: str
    data: Any = None
    """Any JSON."""
    name: str | None = None
    description: str | None = None
    type: str | None = None
    template: str | None = None
    template_variables: TemplateVariables | None = None

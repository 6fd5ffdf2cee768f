"""The base of every task: what Node puts in a job's `data`, camelCase on the wire, snake_case here."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Task(BaseModel):
    """The typed content of a job's `data`.

    Unknown fields are kept and written back untouched: they may belong to a newer producer.
    Strict: a number is never taken for a string, so a producer's mistake is named instead of guessed at.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        frozen=True,
        strict=True,
    )

    type: str
    """Tells the task types apart; the queue's name does not."""

    id: str
    """The task's id; BullMQ's job id may differ (`task-<digits>`, counters)."""

    user_id: str | None = None
    status: str | None = None

    @classmethod
    def type_name(cls) -> str:
        """The literal that `data.type` carries for this model."""
        name: Any = cls.model_fields["type"].default
        return str(name)

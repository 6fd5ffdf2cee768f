"""The task of queue `email-send`: one mail, rendered by its producer. All vintages of it have this flat shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.base import Task


class EmailSend(Task):
    """One mail to one or more recipients, who see each other."""

    type: Literal["email-send"] = "email-send"

    to: Annotated[list[str], Field(min_length=1, fail_fast=True)]
    """Addresses, each alone (`dana@example.com`) or with a name (`Dana <dana@example.com>`). They are checked when
    the mail is sent: a bad one doesn't cost the others their mail."""

    subject: str
    text: str
    """The plain text; where it is empty, the sender derives it from `html`."""

    html: str | None = None
    """Absent or empty: a mail of plain text alone."""

"""The task of queue `sms-message`: one text to one or more phones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.base import Task


class SmsMessage(Task):
    """One text message; each recipient gets one of their own."""

    type: Literal["sms-message"] = "sms-message"

    to: Annotated[list[str], Field(min_length=1, fail_fast=True)]
    """Phone numbers (E.164: `+15555550123`). They are checked when the message is sent."""

    body: str

"""The task of queue `push-notification`: one message to one device, by Web Push."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.base import Part, Task


class PushKeys(Part):
    """What the message is encrypted for (RFC 8291), in base64url."""

    p256dh: str = Field(alias="p256dh")
    auth: str


class PushSubscription(Part):
    """A device, as its browser has described it."""

    endpoint: str
    keys: PushKeys


class PushPayload(Part):
    """What the device gets, as JSON, with whatever else is in it."""

    body: str
    title: str | None = None
    icon: str | None = None
    link: str | None = None


class PushNotification(Task):
    """One message to one device; a user with three has three of them."""

    type: Literal["push-notification"] = "push-notification"
    subscription: PushSubscription
    payload: PushPayload

"""The user whose session a task comes from, as Node's producers copy it into their jobs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tasks.base import Part
from tasks.credits import Credits
from tasks.many import Many


class UserSession(Part):
    """Where the user is logged in."""

    typename: str | None = Field(default=None, alias="__typename")
    id: str | None = None
    last_refresh_at: str | None = None
    """ISO 8601."""


class SessionUser(Part):
    """Nothing but the id is needed to work for a user; what Node's type says is always there may be absent in older
    jobs."""

    typename: str | None = Field(default=None, alias="__typename")
    id: str
    """A snowflake in digits."""
    public_id: str | None = None
    name: str | None = None
    handle: str | None = None

    credits: Credits | None = None
    """What the user had when the job was added."""
    credit_account_id: str | None = None
    credit_settings: dict[str, Any] | None = None

    has_premium: bool | None = None
    is_enterprise: bool | None = None
    has_received_phone_verification_reward: bool | None = None
    phone_number_verified: bool | None = None

    languages: Many[str] | None = None
    """ISO 639 codes, the preferred one first."""
    profile_image: str | None = None
    theme: str | None = None
    session: UserSession | None = None
    updated_at: str | None = None
    """ISO 8601."""

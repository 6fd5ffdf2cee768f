"""The task of queue `notification-create`: one entry in a user's list of notifications."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

from tasks.base import Task

#: Characters that Node's table `notification` holds of each.
MAX_CATEGORY, MAX_TITLE, MAX_TEXT, MAX_LINK = 64, 128, 2048, 2048
#: The largest key of that table (PostgreSQL's bigint).
MAX_KEY = 2**63 - 1


def _at_most(number: int) -> str:
    """The pattern of a number in digits, for JSON Schema: equal up to some digit, less there, any from there on."""
    digits = str(number)
    rest = [f"[0-9]{{{after}}}" if after else "" for after in reversed(range(len(digits)))]
    less = [f"{digits[:at]}[0-{int(each) - 1}]{rest[at]}" for at, each in enumerate(digits) if each != "0"]
    return "|".join([f"[0-9]{{1,{len(digits) - 1}}}", *less, digits])


_KEY = _at_most(MAX_KEY)


def _key(value: str) -> str:
    if not re.fullmatch(_KEY, value):
        raise ValueError("a snowflake in digits")
    return value


def _some(value: str) -> str:
    if not value:
        raise ValueError("an id")
    return value


class NotificationCreate(Task):
    """What its producer has decided to tell a user: preferences, daily limits and silence are its matter.

    Longer texts than the table holds are no invalid data; they are the processor's matter.
    """

    type: Literal["notification-create"] = "notification-create"

    id: Annotated[str, AfterValidator(_key), WithJsonSchema({"type": "string", "pattern": f"^({_KEY})$"})]
    """A snowflake in digits, up to 2^63-1. It becomes the primary key, so that a second job with it is known as one."""

    user_id: Annotated[str, AfterValidator(_some), WithJsonSchema({"type": "string", "minLength": 1})]

    category: str
    """Node's: AccountCreditsOrApi, Award, Message, Run, Schedule, Security, SystemAlert, Transfer and more."""

    title: str
    """May be empty."""

    description: str | None = None
    link: str | None = None
    img_link: str | None = None

    send_web_socket_event: bool | None = None
    """false: the user has silenced it; it is stored alone."""

"""Whose task it is: free, premium or enterprise, by the user data that its producer put in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

from tasks.base import Task
from tasks.written import fields_of

Tier: TypeAlias = Literal["free", "premium", "enterprise"]
TIERS: tuple[Tier, ...] = get_args(Tier)

#: Where a task holds its `userData`, by vintage; the first that has one counts, as in Node's priorities.
_PLACES: tuple[tuple[str, ...], ...] = (("input",), ("context",), ())


@dataclass(frozen=True)
class EnterpriseRule:
    """Which users are enterprise ones: those whose `userData` have one of these values in a field."""

    field: str = "isEnterprise"
    """By its name on the wire; dots lead into objects (`creditSettings.plan`). Defaults to the design's own."""

    values: tuple[str | int | bool, ...] = (True,)
    """A value counts if it is of the same type on the wire too: 1 is not true, and credits are strings there. Defaults
    to true alone."""

    def applies(self, user: Any) -> bool:
        """Whether these user data are an enterprise user's."""
        value = user
        for name in self.field.split("."):
            value = _field(value, name)
        return any(type(value) is type(each) and value == each for each in self.values)


_RULE = EnterpriseRule()


def user_of(task: Task) -> Mapping[str, Any] | BaseModel | None:
    """The task's user data; None where there are none, or none that can be read."""
    for place in _PLACES:
        holder: Any = task
        for key in place:
            holder = _field(holder, key)
        user = _field(holder, "userData")
        if isinstance(user, Mapping | BaseModel):
            return user
    return None


def is_premium(task: Task) -> bool:
    """Whether its `userData.hasPremium` is true, and nothing else than true."""
    return _field(user_of(task), "hasPremium") is True


def tier_of(task: Task, enterprise: EnterpriseRule = _RULE) -> Tier:
    """The tier by the rule for enterprise and by `userData.hasPremium`: free where there are no user data."""
    user = user_of(task)
    if enterprise.applies(user):
        return "enterprise"
    return "premium" if _field(user, "hasPremium") is True else "free"


def _field(holder: Any, name: str) -> Any:
    """A field as the wire has it, by its name there, of an object that a model declares or of one that came along."""
    if isinstance(holder, Mapping):
        return holder.get(name)
    if not isinstance(holder, BaseModel):
        return None
    if (field := fields_of(type(holder)).get(name)) is not None:
        return field.json(getattr(holder, field.name))
    return (holder.model_extra or {}).get(name)

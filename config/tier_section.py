"""The `tiers` of fleet.yaml: how a task tells whose it is, where producers may say it in more than one way."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.section import Section


class EnterpriseConfig(Section):
    """Which users are enterprise ones: those whose `userData` have one of these values in this field."""

    field: Annotated[str, Field(pattern=r"^[^.]+(\.[^.]+)*$")] = "isEnterprise"
    """A field of a task's `userData`, by its name on the wire; dots lead into objects: `creditSettings.plan`. Defaults
    to isEnterprise."""
    values: tuple[str | int | bool, ...] = (True,)
    """Values that make an enterprise user, each of the same type as on the wire: 1 is not true. An empty list: nobody
    is one. Defaults to true alone."""


class TiersConfig(Section):
    """Whose a task is: enterprise by this rule, else premium by `userData.hasPremium`, else free."""

    enterprise: EnterpriseConfig = EnterpriseConfig()
    """Who is an enterprise user."""

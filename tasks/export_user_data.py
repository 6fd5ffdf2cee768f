"""The task of queue `export-user-data`: what is to be exported, of whom, and what becomes of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from tasks.base import Part, Task


class ExportFlags(Part):
    """Which kinds of object; `all` stands for each of them."""

    all: bool
    account: bool | None = None
    apis: bool | None = None
    bookmarks: bool | None = None
    bots: bool | None = None
    chats: bool | None = None
    codes: bool | None = None
    comments: bool | None = None
    issues: bool | None = None
    notes: bool | None = None
    pull_requests: bool | None = None
    projects: bool | None = None
    reactions: bool | None = None
    reminders: bool | None = None
    reports: bool | None = None
    routines: bool | None = None
    runs: bool | None = None
    schedules: bool | None = None
    standards: bool | None = None
    teams: bool | None = None
    views: bool | None = None


class _Export(Part):
    after_export: Literal["Anonymize", "Delete", "NoAction"]
    """What is done to the exported data. An unknown word is refused: a guess might delete."""
    downloadable: bool


class ExportObject(_Export):
    """One object."""

    kind: Literal["SingleObject"] = Field(alias="__type")
    object_type: str
    object_id: str


class ExportUser(_Export):
    """A user's data."""

    kind: Literal["User"] = Field(alias="__type")
    user_id: str
    flags: ExportFlags


class ExportTeam(_Export):
    """A team's data."""

    kind: Literal["Team"] = Field(alias="__type")
    team_id: str
    flags: ExportFlags


ExportConfig: TypeAlias = Annotated[ExportObject | ExportUser | ExportTeam, Field(discriminator="kind")]


class ExportUserData(Task):
    """One export."""

    type: Literal["export-user-data"] = "export-user-data"
    config: ExportConfig

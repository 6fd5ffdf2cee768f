"""The task of queue `import-user-data`: what is to be imported, to whom, and by which rules."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasks.base import Part, Task
from tasks.many import Many


class ImportElement(Part):
    """One object. Which kinds can be imported is the processor's matter."""

    version: str = Field(alias="__version")
    typename: str = Field(alias="__typename")
    shape: dict[str, Any]
    """The object, which may hold others in elements like this one."""


class ImportData(Part):
    """An export, as it was downloaded."""

    exported_at: str = Field(alias="__exportedAt")
    """ISO 8601."""
    signature: str = Field(alias="__signature")
    """A JWT over data and owner; may be empty where foreign data are allowed."""
    source: str = Field(alias="__source")
    version: str = Field(alias="__version")
    """Of the export's format."""
    data: Many[ImportElement]


class ImportOwner(Part):
    """Whose the imported objects become."""

    typename: Literal["User", "Team"] = Field(alias="__typename")
    id: str


class ImportUser(Part):
    """Who imports."""

    id: str
    languages: Many[str] | None = None


class ImportConfig(Part):
    """The rules. An unknown way of resolving conflicts is refused: a guess might overwrite."""

    allow_foreign_data: bool
    """false: the data must be signed by this installation."""
    assign_objects_to: ImportOwner
    on_conflict: Literal["overwrite", "skip", "error"]
    skip_permissions: bool | None = None
    user_data: ImportUser
    is_seeding: bool


class ImportUserData(Task):
    """One import."""

    type: Literal["import-user-data"] = "import-user-data"
    data: ImportData
    config: ImportConfig

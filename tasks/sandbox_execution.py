"""The task of queue `sandbox-execution`: a user's code, run apart from everything."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tasks.base import Task
from tasks.session_user import SessionUser


class SandboxExecution(Task):
    """One call of the function that a code version defines."""

    type: Literal["sandbox-execution"] = "sandbox-execution"
    code_version_id: str
    user_data: SessionUser
    input: Any = None
    """Any JSON."""
    should_spread_input: bool | None = None
    """true: a list is passed as arguments, one each."""
    process: str | None = Field(default=None, alias="__process", examples=["Sandbox", "Test"])
    """Said by older producers alone."""

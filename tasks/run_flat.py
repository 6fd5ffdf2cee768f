"""The flat shape of a run's task: that of Node's code until June 2025."""

from __future__ import annotations

from typing import Any, Literal, Self

from tasks.run_config import RunConfig
from tasks.run_request import RunInput
from tasks.session_user import SessionUser
from tasks.tier_context import TierContext
from tasks.vintage import OlderShape, made


class FlatRun(OlderShape):
    """A run's task without `context` and `input`. Its `status` is the task's."""

    type: Literal["run-start"] = "run-start"
    run_id: str
    resource_version_id: str
    is_new_run: bool
    user_data: SessionUser
    config: RunConfig | None = None
    form_values: dict[str, Any] | None = None
    run_from: str | None = None
    started_by_id: str | None = None

    def lift(self) -> dict[str, Any]:
        """See OlderShape."""
        return {
            "context": made(TierContext, swarm_id=None, user_data=self.user_data),
            "input": made(RunInput, **{name: getattr(self, name) for name in _SHARED}),
            "allocation": None,
            "options": None,
        }

    def lower(self, task: Any) -> Self:
        """See OlderShape."""
        shared = {name: getattr(task.input, name) for name in _SHARED}
        return self.amended(user_data=task.context.user_data, **shared)


_SHARED = tuple(name for name in RunInput.model_fields if name in FlatRun.model_fields and name != "status")

"""The task of queue `run-start`: one run of a routine."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tasks.allocation import Allocation
from tasks.base import Shape
from tasks.execution_options import ExecutionOptions
from tasks.run_flat import FlatRun
from tasks.run_request import RunInput
from tasks.tier_context import TierContext
from tasks.vintage import EvolvedTask


class RunStart(EvolvedTask):
    """One run, started or gone on with."""

    OLDER_SHAPES: ClassVar[tuple[Shape, ...]] = (FlatRun,)

    type: Literal["run-start"] = "run-start"
    context: TierContext
    input: RunInput
    allocation: Allocation | None
    """None: its producer set no bounds, as older ones don't."""
    options: ExecutionOptions | None = None

    @classmethod
    def shape_of(cls, data: Any) -> Shape:
        """By Node's rule: with `input` the newest, else with a `runId` at the top the flat one."""
        if not isinstance(data, dict) or "input" in data:
            return cls
        return FlatRun if "runId" in data else cls

"""The task of a swarm: bots that work towards a goal together.

Node's producers put it into queue `llm-completion`, beside chat replies; its documentation has a queue of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tasks.allocation import Allocation
from tasks.base import Shape
from tasks.execution_options import ExecutionOptions
from tasks.swarm_flat import FlatSwarm
from tasks.swarm_request import SwarmInput
from tasks.tier_context import SwarmContext
from tasks.vintage import EvolvedTask


class SwarmExecution(EvolvedTask):
    """One swarm, from its start on."""

    OLDER_SHAPES: ClassVar[tuple[Shape, ...]] = (FlatSwarm,)

    type: Literal["swarm-execution"] = "swarm-execution"
    context: SwarmContext
    input: SwarmInput
    allocation: Allocation
    options: ExecutionOptions | None = None

    @classmethod
    def shape_of(cls, data: Any) -> Shape:
        """By Node's rule: with `input` the newest, else with both `config` and `swarmId` the flat one."""
        if not isinstance(data, dict) or "input" in data:
            return cls
        return FlatSwarm if "config" in data and "swarmId" in data else cls

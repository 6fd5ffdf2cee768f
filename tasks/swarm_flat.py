"""The flat shape of a swarm's task: that of Node's documentation and of its code until June 2025."""

from __future__ import annotations

from typing import Any, Literal, Self

from tasks.allocation import Allocation
from tasks.base import Part
from tasks.many import Many
from tasks.number import Count, Share
from tasks.session_user import SessionUser
from tasks.swarm_request import ExecutionConfig, SwarmInput, Tool
from tasks.tier_context import SwarmContext
from tasks.vintage import OlderShape, made


class FlatResources(Part):
    """Bounds, and tools. Credits are a plain number here."""

    max_credits: Count | None = None
    max_tokens: Count | None = None
    max_time: Share | None = None
    """Milliseconds."""
    tools: Many[Tool] | None = None


class FlatSwarmConfig(Part):
    """What the swarm is asked to do."""

    name: str | None = None
    description: str | None = None
    goal: str
    resources: FlatResources | None = None
    config: ExecutionConfig | None = None


class FlatSwarm(OlderShape):
    """A swarm's task without `context` and `input`. Unknown fields of its `config` are the `input`'s in the newest
    shape, those of `config.resources` the `allocation`'s.
    """

    type: Literal["swarm-execution"] = "swarm-execution"
    swarm_id: str
    config: FlatSwarmConfig
    user_data: SessionUser
    organization_id: str | None = None

    def lift(self) -> dict[str, Any]:
        """See OlderShape."""
        bounds = self.config.resources or FlatResources()
        return {
            "context": made(SwarmContext, swarm_id=self.swarm_id, user_data=self.user_data),
            "input": made(
                SwarmInput,
                self.config,
                goal=self.config.goal,
                user_data=self.user_data,
                available_tools=bounds.tools,
                execution_config=self.config.config,
                name=self.config.name,
                description=self.config.description,
                organization_id=self.organization_id,
            ),
            "allocation": made(
                Allocation,
                bounds,
                max_credits=bounds.max_credits,
                max_duration_ms=bounds.max_time,
                max_memory_mb=None,
                max_concurrent_steps=None,
                max_tokens=bounds.max_tokens,
            ),
            "options": None,
        }

    def lower(self, task: Any) -> Self:
        """See OlderShape."""
        wanted: SwarmInput = task.input
        bounds: Allocation = task.allocation
        none = FlatResources()
        resources = (self.config.resources or none).amended(
            max_credits=bounds.max_credits,
            max_tokens=bounds.max_tokens,
            max_time=bounds.max_duration_ms,
            tools=wanted.available_tools,
        )
        return self.amended(
            swarm_id=task.context.swarm_id,
            user_data=wanted.user_data,
            organization_id=wanted.organization_id,
            config=self.config.amended(
                name=wanted.name,
                description=wanted.description,
                goal=wanted.goal,
                resources=self.config.resources if resources is none else resources,
                config=wanted.execution_config,
            ),
        )

"""What a swarm is asked to do: the `input` of Node's request."""

from __future__ import annotations

from tasks.base import Part
from tasks.many import Many
from tasks.number import Count, Number
from tasks.session_user import SessionUser


class Tool(Part):
    """A tool that the swarm may call."""

    name: str
    description: str | None = None


class TeamConfiguration(Part):
    """Who works on it."""

    leader_agent_id: str | None = None
    preferred_team_size: Count | None = None
    required_skills: Many[str] | None = None


class ExecutionConfig(Part):
    """By what model, and how."""

    model: str | None = None
    temperature: Number | None = None
    parallel_execution_limit: Count | None = None
    auto_approve_tools: bool | None = None
    """Said by older producers alone."""


class SwarmInput(Part):
    """The goal, and means to it. `name`, `description` and `organization_id` are said by older producers alone."""

    goal: str
    user_data: SessionUser
    swarm_id: str | None = None
    chat_id: str | None = None
    team_configuration: TeamConfiguration | None = None
    available_tools: Many[Tool] | None = None
    """None: those that the engine gives every swarm."""
    execution_config: ExecutionConfig | None = None
    name: str | None = None
    description: str | None = None
    organization_id: str | None = None

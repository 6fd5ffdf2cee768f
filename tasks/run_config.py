"""How a routine is to be run: the `config` of a run, in all its shapes."""

from __future__ import annotations

from typing import Any, Literal

from tasks.base import Part
from tasks.credits import Credits
from tasks.number import Count


class BotConfig(Part):
    """Which bot answers, and by what model and prompt."""

    model: str | None = None
    model_handling: Literal["OnlyWhenMissing", "Override"] | None = None
    prompt: str | None = None
    prompt_handling: Literal["Combine", "Override"] | None = None
    responding_bot: Any = None
    """Any JSON: Node's producers give an id, or an object with one."""
    responding_bot_handle: str | None = None


class DecisionConfig(Part):
    """Who decides at each kind of choice."""

    input_generation: Literal["Auto", "Manual"] | None = None
    path_selection: Literal["AutoPickFirst", "AutoPickLLM", "AutoPickRandom", "ManualPick"] | None = None
    subroutine_execution: Literal["Auto", "Manual"] | None = None


class RunLimits(Part):
    """Bounds that the run's user has set, and what happens at each. None: no bound."""

    max_context_tokens: Count | None = None
    max_credits: Credits | None = None
    max_steps: Count | None = None
    max_time: Count | None = None
    """Milliseconds."""
    on_max_credits: Literal["Pause", "Stop"] | None = None
    on_max_steps: Literal["Pause", "Stop"] | None = None
    on_max_time: Literal["Pause", "Stop"] | None = None


class RunConfig(Part):
    """What is absent is the engine's to choose. An unknown choice is refused: a guess would run something else."""

    bot_config: BotConfig | None = None
    decision_config: DecisionConfig | None = None
    is_private: bool | None = None
    is_time_sensitive: bool | None = None
    """Such runs come before others; see `tasks.priority`."""
    limits: RunLimits | None = None
    loop_config: dict[str, Any] | None = None
    on_branch_failure: Literal["Continue", "Pause", "Stop"] | None = None
    on_gateway_fork_failure: Literal["Continue", "Wait", "Fail"] | None = None
    on_normal_node_failure: Literal["Continue", "Wait", "Fail"] | None = None
    on_only_waiting_branches: Literal["Continue", "Pause", "Stop"] | None = None
    test_mode: bool | None = None

"""How soon a task's turn comes: BullMQ serves the lowest number first, and 0, which is none, before all of them. Pure.

Two rules: the design's generic one, and what Node's producers do today. Which applies is a setting of each task type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from tasks.base import Task
from tasks.llm_completion import LlmCompletion
from tasks.run_start import RunStart
from tasks.swarm_execution import SwarmExecution
from tasks.tier import EnterpriseRule, is_premium, tier_of

#: The largest number that every BullMQ takes: version 5 goes up to 2,097,152, version 6 refuses that one.
MAX_PRIORITY = 2**21 - 1

Urgency: TypeAlias = Literal["low", "normal", "high", "critical"]
Rule: TypeAlias = Literal["generic", "node"]


@dataclass(frozen=True)
class Weights:
    """The numbers of the generic rule. The design states those of tier and type; it names the other factors without
    numbers, so these are ours: a free user's critical task comes before a premium user's normal one, but not before an
    enterprise user's."""

    base: int = 100
    premium: int = -20
    enterprise: int = -40
    """Added to that of premium where a user is both."""
    types: Mapping[str, int] = field(default_factory=lambda: {"email-send": 10, "swarm-execution": -5})
    urgency: Mapping[Urgency, int] = field(
        default_factory=lambda: {"low": 15, "normal": 0, "high": -15, "critical": -30}
    )
    cost: int = 2
    """For each power of ten in the resource cost."""
    max_cost: int = 15
    """The most that a cost adds."""
    jobs_a_step: int = 100
    """One is added for so many jobs in the queue, for free users alone: who pays does not feel a crowd."""
    max_depth: int = 15
    """The most that the queue's depth adds."""


WEIGHTS = Weights()
_RULE = EnterpriseRule()

#: Node's numbers (node-stack: swarm and run helpers, queue defaults).
LLM = 50
BASE = 100
SWARM_PREMIUM, RUN_PREMIUM = -20, -5
RUN_FROM = {"RunView": -20, "Api": -16, "Chat": -14, "Webhook": -10, "Bot": -7, "Schedule": -3, "Test": -1}
TIME_SENSITIVE, RESUMED = -15, -10

_BY_WORD: Mapping[str, Urgency] = {"low": "low", "medium": "normal", "high": "high"}


def calculate_priority(
    task: Task,
    *,
    rule: Rule = "generic",
    urgency: Urgency | None = None,
    resource_cost: float = 0.0,
    queue_depth: int = 0,
    registered: bool = False,
    enterprise: EnterpriseRule = _RULE,
    weights: Weights = WEIGHTS,
) -> int:
    """The job's priority, from 0 to 2,097,151.

    Args:
        rule: generic: the design's, by tier, type, urgency, cost and depth. node: what Node's producers do for swarms,
            runs and completions; 0, no priority, for all others.
        urgency: generic only. None: what the task's own options say (`low`, `medium`, `high`), else normal.
        resource_cost: generic only: what it will use up, in credits or whatever a queue counts. Defaults to unknown, 0.
        queue_depth: generic only: jobs that wait before it. Defaults to 0.
        registered: node only: a run that exists is known to this process's registry, and so comes sooner.
        enterprise: generic only: who is an enterprise user.
        weights: generic only: the numbers.

    Raises:
        ValueError: a factor that is none: negative, not finite, an unknown word.
    """
    if rule == "node":
        value = _node(task, registered)
    elif rule == "generic":
        value = _generic(task, urgency, _checked("resource_cost", resource_cost), enterprise, weights)
        if tier_of(task, enterprise) == "free":
            value += min(weights.max_depth, int(_checked("queue_depth", queue_depth) // weights.jobs_a_step))
    else:
        raise ValueError(f"rule: expected generic or node, found {rule!r:.40}")
    return min(max(value, 0), MAX_PRIORITY)


def _generic(task: Task, urgency: Urgency | None, cost: float, enterprise: EnterpriseRule, weights: Weights) -> int:
    chosen = urgency or _said(task)
    if chosen not in get_args(Urgency):
        raise ValueError(f"urgency: expected {', '.join(get_args(Urgency))}, found {chosen!r:.40}")
    value = weights.base + weights.types.get(task.type, 0) + weights.urgency.get(chosen, 0)
    value += weights.premium if is_premium(task) else 0
    value += weights.enterprise if tier_of(task, enterprise) == "enterprise" else 0
    return value + min(weights.max_cost, int(weights.cost * math.log10(1 + cost)))


def _said(task: Task) -> Urgency:
    options = getattr(task, "options", None)
    return _BY_WORD.get(str(getattr(options, "priority", None)), "normal")


def _node(task: Task, registered: bool) -> int:
    match task:
        case SwarmExecution():
            return BASE + (SWARM_PREMIUM if is_premium(task) else 0)
        case RunStart():
            config = task.input.config
            return (
                BASE
                + RUN_FROM.get(task.input.run_from or "", 0)
                + (TIME_SENSITIVE if config is not None and config.is_time_sensitive else 0)
                + (RUN_PREMIUM if is_premium(task) else 0)
                + (RESUMED if registered and not task.input.is_new_run else 0)
            )
        case LlmCompletion():
            return LLM
    return 0


def _checked(name: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number from 0 up, found {value!r}")
    return value

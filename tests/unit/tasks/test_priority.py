"""Both rules against their sources: the seed's `calculatePriority` and the helpers of Node (node-stack, 1.5)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.base import Task
from tasks.codec import decode
from tasks.priority import MAX_PRIORITY, Rule, Weights, calculate_priority
from tasks.tier import EnterpriseRule
from tests.unit.tasks.producers import PRODUCERS, Producer, allocation, run, swarm
from tests.unit.tasks.wire_data import EXAMPLES

TASKS_SEEN = [decode(job["data"]) for job in EXAMPLES] + [decode(each.data) for each in PRODUCERS]
BOUNDS = allocation("1", 1, 1, 1)
BY_TYPE = {each["data"]["type"]: each["data"] for each in EXAMPLES}


def with_user(type_name: str, **user: Any) -> Task:
    """A task of this type whose user data say these alone."""
    return decode(BY_TYPE[type_name] | {"userData": {"id": "1", **user}})


def seeds(task: dict[str, Any]) -> int:
    """`calculatePriority` of the seed, line by line."""
    priority = 100
    if task.get("userData", {}).get("hasPremium"):
        priority -= 20
    if task.get("userData", {}).get("isEnterprise"):
        priority -= 40
    if task["type"] == "email-send":
        priority += 10
    if task["type"] == "swarm-execution":
        priority -= 5
    return max(0, priority)


@pytest.mark.parametrize("enterprise", [False, True])
@pytest.mark.parametrize("premium", [False, True])
@pytest.mark.parametrize("type_name", ["email-send", "sms-message", "sandbox-execution", "export-user-data"])
def test_generic_rule_is_the_seeds_for_tier_and_type(type_name: str, premium: bool, enterprise: bool) -> None:
    task = with_user(type_name, hasPremium=premium, isEnterprise=enterprise)
    wire = {"type": type_name, "userData": {"hasPremium": premium, "isEnterprise": enterprise}}
    assert calculate_priority(task) == seeds(wire)


@pytest.mark.parametrize("premium", [False, True])
def test_generic_rule_is_the_seeds_for_both_shapes_of_a_swarm(premium: bool) -> None:
    flat = BY_TYPE["swarm-execution"] | {"userData": {"id": "1", "hasPremium": premium}}
    flat = {key: value for key, value in flat.items() if key not in ("context", "input", "allocation")}
    flat |= {"swarmId": "s", "config": {"goal": "g"}}
    expected = seeds({"type": "swarm-execution", "userData": {"hasPremium": premium}})
    assert calculate_priority(decode(flat)) == expected == 95 - 20 * premium
    assert calculate_priority(decode(swarm("", "a", BOUNDS, premium=premium).data)) == expected


GENERIC: list[tuple[dict[str, Any], int]] = [
    ({}, 100),
    ({"urgency": "low"}, 115),
    ({"urgency": "normal"}, 100),
    ({"urgency": "high"}, 85),
    ({"urgency": "critical"}, 70),
    ({"resource_cost": 0}, 100),
    ({"resource_cost": 9}, 102),
    ({"resource_cost": 999}, 106),
    ({"resource_cost": 1e300}, 115),
    ({"queue_depth": 99}, 100),
    ({"queue_depth": 100}, 101),
    ({"queue_depth": 10**9}, 115),
    ({"urgency": "critical", "resource_cost": 99, "queue_depth": 250}, 76),
]


@pytest.mark.parametrize(("factors", "priority"), GENERIC)
def test_generic_rule_by_urgency_cost_and_depth(factors: dict[str, Any], priority: int) -> None:
    assert calculate_priority(with_user("sms-message"), **factors) == priority


def test_who_pays_does_not_feel_a_crowd() -> None:
    assert calculate_priority(with_user("sms-message", hasPremium=True), queue_depth=10**6) == 80


@pytest.mark.parametrize(("word", "priority"), [("low", 115), ("medium", 100), ("high", 85), ("now", 100)])
def test_urgency_is_what_the_tasks_options_say_unless_it_is_given(word: str, priority: int) -> None:
    data = BY_TYPE["llm-completion"] | {"options": {"priority": word}}
    assert calculate_priority(decode(data)) == priority
    assert calculate_priority(decode(data), urgency="critical") == 70


NODE: list[tuple[Producer, bool, int]] = [
    (swarm("", "a", BOUNDS), False, 100),
    (swarm("", "a", BOUNDS, premium=True), False, 80),
    (run("", "a", BOUNDS, "RunView", 0), False, 80),
    (run("", "a", BOUNDS, "Api", 0), False, 84),
    (run("", "a", BOUNDS, "Chat", 0), False, 86),
    (run("", "a", BOUNDS, "Webhook", 0), False, 90),
    (run("", "a", BOUNDS, "Bot", 0), False, 93),
    (run("", "a", BOUNDS, "Schedule", 0), False, 97),
    (run("", "a", BOUNDS, "Test", 0), False, 99),
    (run("", "a", BOUNDS, "Elsewhere", 0), False, 100),
    (run("", "a", BOUNDS, "Chat", 0, timeSensitive=True), False, 71),
    (run("", "a", BOUNDS, "Chat", 0, premium=True), False, 81),
    (run("", "a", BOUNDS, "Chat", 0, isNewRun=False), False, 86),
    (run("", "a", BOUNDS, "Chat", 0, isNewRun=False), True, 76),
    (run("", "a", BOUNDS, "Chat", 0), True, 86),
    (run("", "a", BOUNDS, "RunView", 0, premium=True, timeSensitive=True, isNewRun=False), True, 50),
]


@pytest.mark.parametrize(("producer", "registered", "priority"), NODE)
def test_nodes_rule_is_that_of_its_helpers(producer: Producer, registered: bool, priority: int) -> None:
    assert calculate_priority(decode(producer.data), rule="node", registered=registered) == priority


def test_premium_is_looked_up_where_node_looks_first() -> None:
    data = swarm("", "a", BOUNDS, premium=True).data
    free = data | {"input": data["input"] | {"userData": data["input"]["userData"] | {"hasPremium": False}}}
    assert calculate_priority(decode(free), rule="node") == 100


@pytest.mark.parametrize("task", TASKS_SEEN, ids=lambda task: task.type)
def test_nodes_rule_gives_no_priority_to_what_node_gives_none(task: Task) -> None:
    given = calculate_priority(task, rule="node")
    assert (given == 0) is (task.type not in ("llm-completion", "swarm-execution", "run-start"))


def test_where_enterprise_comes_from_is_a_setting() -> None:
    task = with_user("sandbox-execution", creditSettings={"plan": "ent"}, hasPremium=True)
    assert calculate_priority(task) == 80
    assert calculate_priority(task, enterprise=EnterpriseRule("creditSettings.plan", ("ent",))) == 40


def test_numbers_of_the_generic_rule_are_a_setting() -> None:
    weights = Weights(base=10, premium=-50, types={"sms-message": 5})
    assert calculate_priority(with_user("sms-message"), weights=weights) == 15
    assert calculate_priority(with_user("sms-message", hasPremium=True), weights=weights) == 0
    assert calculate_priority(with_user("sms-message"), weights=Weights(base=2**40)) == MAX_PRIORITY == 2**21 - 1


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(TASKS_SEEN),
    st.sampled_from(["generic", "node"]),
    st.sampled_from(["low", "normal", "high", "critical", None]),
    st.floats(0, allow_infinity=False) | st.integers(0, 10**30),
    st.integers(0, 10**30),
    st.booleans(),
)
def test_whatever_the_factors_bullmq_takes_the_number(
    task: Task, rule: Rule, urgency: Any, cost: float, depth: int, registered: bool
) -> None:
    got = calculate_priority(
        task, rule=rule, urgency=urgency, resource_cost=cost, queue_depth=depth, registered=registered
    )
    assert type(got) is int
    assert 0 <= got <= MAX_PRIORITY


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "fair"}, "rule: expected generic or node, found 'fair'"),
        ({"urgency": "now"}, "urgency: expected low, normal, high, critical, found 'now'"),
        ({"resource_cost": math.nan}, "resource_cost: expected a finite number from 0 up, found nan"),
        ({"resource_cost": math.inf}, "resource_cost: expected a finite number from 0 up, found inf"),
        ({"queue_depth": -1}, "queue_depth: expected a finite number from 0 up, found -1"),
    ],
)
def test_factor_that_is_none_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        calculate_priority(with_user("sms-message"), **wrong)

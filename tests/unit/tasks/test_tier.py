"""Whose task it is, from the user data of every vintage, and from what only looks like it."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tasks.base import Task
from tasks.codec import decode
from tasks.session_user import SessionUser
from tasks.tier import TIERS, EnterpriseRule, Tier, is_premium, tier_of, user_of
from tests.unit.tasks.wire_data import EXAMPLES


class Loose(Task):
    """A task that declares nothing of its user."""

    type: Literal["loose"] = "loose"


class User(BaseModel):
    """User data that a task declares."""

    has_premium: bool = False


class Declared(Task):
    """A task that declares it."""

    type: Literal["declared"] = "declared"
    user_data: User | None = None


def loose(**fields: Any) -> Loose:
    return Loose.model_validate({"type": "loose", "id": "1", **fields}, by_alias=True, by_name=False)


@pytest.mark.parametrize(
    ("user", "tier"),
    [
        ({"hasPremium": True}, "premium"),
        ({"hasPremium": False}, "free"),
        ({"isEnterprise": True}, "enterprise"),
        ({"isEnterprise": True, "hasPremium": True}, "enterprise"),
        ({"isEnterprise": False, "hasPremium": True}, "premium"),
        ({}, "free"),
        # only true counts: what is written wrongly gives nobody more than others have
        ({"hasPremium": "true"}, "free"),
        ({"hasPremium": 1}, "free"),
        ({"isEnterprise": "yes", "hasPremium": [True]}, "free"),
        ({"isEnterprise": None, "hasPremium": True}, "premium"),
        ({"has_premium": True}, "free"),
    ],
)
def test_tier_is_that_of_the_user_data(user: Any, tier: Tier) -> None:
    assert tier_of(loose(userData=user)) == tier


@pytest.mark.parametrize("user", [None, True, "premium", 7, [], [{"hasPremium": True}], {"user": {"hasPremium": True}}])
def test_user_data_that_is_none_is_free(user: Any) -> None:
    assert tier_of(loose(userData=user)) == "free"
    assert tier_of(loose(user_data={"hasPremium": True})) == "free"
    assert tier_of(loose()) == "free"


PREMIUM, PLAIN = {"userData": {"hasPremium": True}}, {"userData": {"hasPremium": False}}


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({"input": PREMIUM, "context": PLAIN, **PLAIN}, "premium"),
        ({"input": PLAIN, "context": PREMIUM, **PREMIUM}, "free"),
        ({"input": {"goal": "x"}, "context": PREMIUM, **PLAIN}, "premium"),
        ({"input": [PREMIUM], "context": "x", **PREMIUM}, "premium"),
        ({"input": {"userData": "x"}, "context": {"userData": None}, **PREMIUM}, "premium"),
        ({"context": PREMIUM}, "premium"),
    ],
)
def test_first_place_with_user_data_counts_as_in_node(fields: dict[str, Any], tier: Tier) -> None:
    assert tier_of(loose(**fields)) == tier


def test_user_data_may_be_declared_by_the_task() -> None:
    class Whose(BaseModel):
        hasPremium: bool = False

    class Known(Declared):
        user_data: Whose | None = None  # type: ignore[assignment]

    assert tier_of(Known(id="1", user_data=Whose(hasPremium=True))) == "premium"
    assert tier_of(Known(id="1")) == "free"
    assert tier_of(Declared(id="1", user_data=User(has_premium=True))) == "free"  # not the name on the wire


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["userData", "hasPremium", "isEnterprise", "input", "context", "x"]), inner, max_size=3
        )
    ),
)


@settings(deadline=None, max_examples=60, database=None)
@given(st.fixed_dictionaries({}, optional={"userData": anything, "input": anything, "context": anything}))
def test_whatever_is_there_has_a_tier(fields: dict[str, Any]) -> None:
    assert tier_of(loose(**fields)) in TIERS


@pytest.mark.parametrize(
    ("rule", "user", "tier"),
    [
        (EnterpriseRule("plan", ("ent", "ent-plus")), {"plan": "ent"}, "enterprise"),
        (EnterpriseRule("plan", ("ent", "ent-plus")), {"plan": "ent-plus", "hasPremium": True}, "enterprise"),
        (EnterpriseRule("plan", ("ent",)), {"plan": "pro", "isEnterprise": True}, "free"),
        (EnterpriseRule("creditSettings.plan", ("ent",)), {"creditSettings": {"plan": "ent"}}, "enterprise"),
        (EnterpriseRule("creditSettings.plan", ("ent",)), {"creditSettings": ["ent"], "hasPremium": True}, "premium"),
        (EnterpriseRule("creditSettings.plan", ("ent",)), {}, "free"),
        (EnterpriseRule("seats", (1,)), {"seats": 1}, "enterprise"),
        (EnterpriseRule("seats", (1,)), {"seats": True}, "free"),
        (EnterpriseRule("seats", (1,)), {"seats": 1.0}, "free"),
        (EnterpriseRule("plan", ()), {"plan": "ent", "isEnterprise": True}, "free"),
    ],
)
def test_where_enterprise_comes_from_is_a_setting(rule: EnterpriseRule, user: Any, tier: Tier) -> None:
    assert tier_of(loose(userData=user), rule) == tier


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_examples_have_the_tier_of_their_users(job: dict[str, Any]) -> None:
    data = job["data"]
    users = [holder["userData"] for holder in (data.get("input"), data.get("context"), data) if _names_a_user(holder)]
    task = decode(data)
    premium = bool(users) and users[0].get("hasPremium", False)
    assert (tier_of(task), is_premium(task)) == ("premium" if premium else "free", premium)
    assert (user_of(task) is None) is (not users)


def _names_a_user(holder: Any) -> bool:
    return isinstance(holder, dict) and "userData" in holder


def test_enterprise_users_of_both_shapes_of_a_swarm() -> None:
    for job in EXAMPLES:
        if job["data"]["type"] == "swarm-execution":
            places = [job["data"].get("input"), job["data"].get("context"), job["data"]]
            user = next(each["userData"] for each in places if _names_a_user(each)) | {"isEnterprise": True}
            changed = {"userData": user}
            if "input" in job["data"]:
                changed = {"input": job["data"]["input"] | {"userData": user}}
            assert tier_of(decode(job["data"] | changed)) == "enterprise"


@pytest.mark.parametrize("job", [job for job in EXAMPLES if "userData" in str(job) and "import" not in job["queue"]])
@pytest.mark.parametrize(
    ("values", "applies"),
    [(("777",), True), ((777,), False), (("unlimited",), False), ((None,), False), (("0777", True, 777), False)],
)
def test_values_are_those_of_the_wire_whether_a_model_declares_the_field_or_not(
    job: dict[str, Any], values: Any, applies: bool
) -> None:
    """Credits are strings there, and integers in a model."""
    data = copy.deepcopy(job["data"])
    for holder in (data.get("input"), data.get("context"), data):
        if _names_a_user(holder):
            holder["userData"]["credits"] = "777"
    rule = EnterpriseRule("credits", values)
    user = user_of(decode(data))
    assert user is not None
    assert rule.applies(user) is rule.applies({"credits": "777"}) is applies
    assert (tier_of(decode(data), rule) == "enterprise") is applies


def test_declared_field_that_is_absent_has_no_value() -> None:
    assert EnterpriseRule("credits", ("None", "null", "")).applies(SessionUser(id="1")) is False
    assert EnterpriseRule("credits", ("unlimited",)).applies(SessionUser(id="1", credits="unlimited")) is True

"""Outcomes are plain, frozen values that all say why; what the contract exports is complete."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any, get_args

import pytest

from workers import contract
from workers.contract import (
    Cancel,
    HandBack,
    Isolation,
    Outcome,
    Park,
    QueueModule,
    RateLimited,
    Requeue,
    Services,
    Snooze,
    TimeUp,
    Verdict,
    WaitForChildren,
    retry_all,
)

EXAMPLES: tuple[Outcome, ...] = (
    Snooze(5.0, "later"),
    Park("set aside"),
    Cancel("ended"),
    RateLimited(5.0),
    WaitForChildren(),
    Requeue(),
    HandBack("drain"),
    TimeUp("late"),
)


def test_every_outcome_is_tried_here() -> None:
    assert {type(example) for example in EXAMPLES} == set(get_args(Outcome))


@pytest.mark.parametrize("outcome", EXAMPLES, ids=lambda outcome: type(outcome).__name__)
def test_outcome_is_a_frozen_value_with_a_reason(outcome: Any) -> None:
    assert isinstance(outcome.reason, str) and outcome.reason
    assert outcome == dataclasses.replace(outcome)
    assert hash(outcome) == hash(dataclasses.replace(outcome))
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.reason = "another"


def test_defaults_are_those_of_the_documentation() -> None:
    assert Park("r").wake_s == 2_592_000
    assert Verdict() == Verdict(retry=True, retry_after_s=None, failure=None) == retry_all(ValueError())


def test_module_needs_task_options_and_open_alone() -> None:
    required = {each.name for each in dataclasses.fields(QueueModule) if each.default is dataclasses.MISSING}
    assert required == {"task", "options", "open"}
    fields = {each.name: each.default for each in dataclasses.fields(QueueModule)}
    assert fields["isolation"] is Isolation.ASYNC and fields["classify"] is retry_all
    with pytest.raises(TypeError):
        Services("queue", 1)  # type: ignore[call-arg]


def test_isolations_are_those_of_the_configuration() -> None:
    assert [str(kind) for kind in Isolation] == ["async", "thread", "process"]


def test_all_that_is_exported_is_there_and_sorted() -> None:
    assert sorted(contract.__all__) == contract.__all__
    assert all(hasattr(contract, name) for name in contract.__all__)


def test_every_public_class_of_the_contract_is_exported() -> None:
    """Those of Ledger's and Effect's parts, which only a host or a check of types needs, are left to their modules."""
    internal = {"EffectState", "StopKind", "T", "T_contra", "OptionsT"}
    for found in pkgutil.iter_modules(contract.__path__):
        module = importlib.import_module(f"{contract.__name__}.{found.name}")
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and not name.startswith("_") and name not in internal:
                assert name in contract.__all__, f"{module.__name__}.{name}"

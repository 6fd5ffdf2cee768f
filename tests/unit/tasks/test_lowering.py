"""A changed task in an older shape: what is written is what decode reads back as the same, or nothing is written."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.allocation import Allocation
from tasks.base import Envelope, Part
from tasks.codec import decode, encode
from tasks.run_config import RunConfig, RunLimits
from tasks.run_start import RunStart
from tasks.swarm_execution import SwarmExecution
from tasks.vintage import EvolvedTask, LoweringError, OlderShape
from tests.unit.tasks.test_vintages import FLAT_RUN, FLAT_SWARM
from tests.unit.tasks.wire_data import SHAPES, json_values, of_shape, same

OLDER: list[type[Envelope]] = [shape for shape in SHAPES if issubclass(shape, OlderShape)]
QUICK = (Phase.explicit, Phase.generate, Phase.shrink)


def changed(flat: dict[str, Any], place: tuple[str, ...], value: Any) -> EvolvedTask:
    """The task of these data with another value, which nobody has checked."""
    task = decode(copy.deepcopy(flat))
    assert isinstance(task, EvolvedTask)
    with_value: EvolvedTask = _with(task, place, value)
    return with_value


def _with(holder: Any, place: tuple[str, ...], value: Any) -> Any:
    name, *rest = place
    new = _with(getattr(holder, name), tuple(rest), value) if rest else value
    return holder.model_copy(update={name: new})


@pytest.mark.parametrize(
    ("flat", "place", "value", "path"),
    [
        (FLAT_SWARM, ("allocation", "max_credits"), "unlimited", "data.config.resources.maxCredits"),
        (FLAT_SWARM, ("allocation", "max_credits"), -5, "data.config.resources.maxCredits"),
        (FLAT_SWARM, ("allocation", "max_credits"), 2**70, "data.config.resources.maxCredits"),
        # what no shape takes is named as the newest has it
        (FLAT_SWARM, ("allocation", "max_credits"), 10**200, "data.allocation.maxCredits"),
        (FLAT_SWARM, ("allocation", "max_credits"), 1.5, "data.allocation.maxCredits"),
        (FLAT_SWARM, ("allocation", "max_duration_ms"), -1, "data.allocation.maxDurationMs"),
        (FLAT_SWARM, ("allocation", "max_duration_ms"), math.inf, "data.allocation.maxDurationMs"),
        (FLAT_SWARM, ("allocation", "max_tokens"), 1.5, "data.allocation.maxTokens"),
        (FLAT_SWARM, ("allocation",), None, "data.allocation"),
        (FLAT_SWARM, ("input",), {"goal": "g"}, "data.input.userData"),
        (FLAT_SWARM, ("input", "goal"), 7, "data.input.goal"),
        (FLAT_SWARM, ("input", "name"), [], "data.input.name"),
        (FLAT_SWARM, ("input", "organization_id"), 7, "data.input.organizationId"),
        (FLAT_SWARM, ("input", "available_tools"), [{"name": 7}], "data.input.availableTools.0.name"),
        (FLAT_SWARM, ("input", "execution_config"), {"temperature": "hot"}, "data.input.executionConfig.temperature"),
        (FLAT_SWARM, ("context",), None, "data.context"),
        (FLAT_SWARM, ("context", "swarm_id"), None, "data.context.swarmId"),
        (FLAT_SWARM, ("id",), 7, "data.id"),
        (FLAT_SWARM, ("status",), 7, "data.status"),
        (FLAT_SWARM, ("timeout",), math.nan, "data.timeout"),
        (FLAT_SWARM, ("schema_version",), 0, "data.schemaVersion"),
        (FLAT_SWARM, ("schema_version",), 2, "data.schemaVersion"),
        (FLAT_SWARM, ("type",), "email-send", "data.type"),
        (FLAT_SWARM, ("type",), [], "data.type"),
        (FLAT_RUN, ("input", "run_id"), 7, "data.input.runId"),
        (FLAT_RUN, ("input", "is_new_run"), None, "data.input.isNewRun"),
        (FLAT_RUN, ("input", "form_values"), [1], "data.input.formValues"),
        (FLAT_RUN, ("input", "config"), {"limits": {"maxCredits": 5}}, "data.input.config.limits.maxCredits"),
        (FLAT_RUN, ("input", "config", "limits"), RunLimits(max_steps=3).model_copy(update={"max_steps": -3}), None),
        (FLAT_RUN, ("input", "started_by_id"), 7, "data.input.startedById"),
        (FLAT_RUN, ("context", "user_data"), {"id": 7}, "data.context.userData.id"),
        (FLAT_RUN, ("user_id",), 7, "data.userId"),
        (FLAT_RUN, ("idempotency_key",), 7, "data.idempotencyKey"),
    ],
)
def test_what_decode_would_refuse_is_not_written(
    flat: dict[str, Any], place: tuple[str, ...], value: Any, path: str | None
) -> None:
    task = changed(flat, place, value)
    with pytest.raises(LoweringError) as error:
        encode(task)
    assert str(error.value).startswith(f"{path or 'data.input.config.limits.maxSteps'}: expected ")
    assert len(str(error.value)) < 1200
    assert str(error.value).isprintable()


@pytest.mark.parametrize("amount", ["unlimited", -5, 2**70])
def test_what_the_newest_shape_alone_can_say_is_written_renewed(amount: Any) -> None:
    task = changed(FLAT_SWARM, ("allocation", "max_credits"), amount)
    with pytest.raises(LoweringError, match=r"; FlatSwarm has no place for it; write the task renewed\(\)$"):
        encode(task)
    data = encode(task.renewed())
    assert data["allocation"]["maxCredits"] == str(amount)
    assert decode(data) == task


@pytest.mark.parametrize(
    ("flat", "place", "value", "way"),
    [
        (FLAT_SWARM, ("allocation", "max_credits"), 0, ("config", "resources", "maxCredits")),
        (FLAT_SWARM, ("allocation", "max_duration_ms"), 0.5, ("config", "resources", "maxTime")),
        (FLAT_SWARM, ("input", "available_tools"), [{"name": "web"}], ("config", "resources", "tools")),
        (FLAT_SWARM, ("input", "goal"), "", ("config", "goal")),
        (FLAT_RUN, ("input", "form_values"), {"\ud800": [None]}, ("formValues",)),
        (FLAT_RUN, ("input", "config"), {"isTimeSensitive": False, "zz": 1}, ("config",)),
        (FLAT_RUN, ("input", "run_from"), "Bot", ("runFrom",)),
    ],
)
def test_what_it_can_say_is_written(flat: dict[str, Any], place: tuple[str, ...], value: Any, way: Any) -> None:
    data = encode(changed(flat, place, value))
    expected: Any = copy.deepcopy(flat)
    holder = expected
    for name in way[:-1]:
        holder = holder[name]
    holder[way[-1]] = value
    assert same(data, expected)


def test_models_and_data_are_the_same_change() -> None:
    limits = {"maxCredits": "9"}
    as_data = changed(FLAT_RUN, ("input", "config"), {"limits": limits})
    as_model = changed(FLAT_RUN, ("input", "config"), RunConfig(limits=RunLimits(max_credits=9)))
    assert encode(as_data) == encode(as_model) == FLAT_RUN | {"config": {"limits": limits}}


def test_bounds_that_a_run_gets_have_no_place_in_a_flat_one() -> None:
    bounds = Allocation(max_credits=1, max_duration_ms=1, max_memory_mb=1, max_concurrent_steps=1)
    with pytest.raises(LoweringError, match=r"^allocation: FlatRun has no place for it"):
        encode(changed(FLAT_RUN, ("allocation",), bounds))


def test_data_deeper_than_the_default_bound_are_for_their_reader_to_judge() -> None:
    value: Any = 0
    for _ in range(200):
        value = [value]
    data = encode(changed(FLAT_RUN, ("input", "form_values"), {"deep": value}))
    assert json.dumps(data["formValues"]["deep"]) == "[" * 200 + "0" + "]" * 200


def attributes(task: Any, way: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The declared fields of a task and its parts."""
    found = []
    for name in type(task).model_fields:
        found.append((*way, name))
        if isinstance(value := getattr(task, name), Part):
            found += attributes(value, (*way, name))
    return found


@pytest.mark.parametrize("shape", OLDER, ids=lambda shape: shape.__name__)
@settings(deadline=None, max_examples=100, phases=QUICK, database=None)
@given(st.data())
def test_any_change_is_written_as_it_was_meant_or_refused(shape: type[Envelope], data: st.DataObject) -> None:
    flat = data.draw(of_shape(shape))
    place = data.draw(st.sampled_from(attributes(decode(flat))))
    task = changed(flat, place, data.draw(json_values))
    try:
        written = encode(task)
    except LoweringError as error:
        assert str(error).isprintable()
    else:
        again = decode(written)
        assert isinstance(again, SwarmExecution | RunStart)
        assert type(again.as_written()) is shape
        assert says(again) == says(task)


def says(task: EvolvedTask) -> Any:
    """What a task says in its newest shape, null and what is absent being the same, and so are equal numbers."""
    return _without_null(encode(task.renewed()))


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(each) for key, each in value.items() if each is not None}
    return [_without_null(each) for each in value] if isinstance(value, list) else value

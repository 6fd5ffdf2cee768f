"""Three vintages of producers (node-stack, 1.7), one task: told apart, understood alike, written back as they came."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tasks.base import Task
from tasks.codec import DecodeError, decode, encode
from tasks.llm_completion import LlmCompletion
from tasks.priority import calculate_priority
from tasks.run_flat import FlatRun
from tasks.run_start import RunStart
from tasks.swarm_execution import SwarmExecution
from tasks.swarm_flat import FlatSwarm
from tasks.vintage import LoweringError
from tests.unit.tasks.producers import WHEN, user

USER = user(premium=True)
#: DOC, and OLD: the seed's SwarmExecutionTask with its BoundedTask's resources and timeout.
FLAT_SWARM: dict[str, Any] = {
    "type": "swarm-execution",
    "id": "a1",
    "swarmId": "s1",
    "config": {
        "name": "Scan",
        "description": "",
        "goal": "Compare",
        "resources": {
            "maxCredits": 1000,
            "maxTokens": 5000,
            "maxTime": 60_000,
            "tools": [{"name": "web", "description": ""}],
            "spare": 1,
        },
        "config": {"model": "gpt-4", "temperature": 0.7, "autoApproveTools": False, "parallelExecutionLimit": 5},
    },
    "organizationId": "o1",
    "timeout": 600_000,
    "userData": USER,
    "extra": {"kept": [None]},
}
#: CODE: the same, as Node's code writes it since August 2025.
NEW_SWARM: dict[str, Any] = {
    "type": "swarm-execution",
    "id": "a1",
    "context": {"swarmId": "s1", "userData": USER},
    "input": {
        "goal": "Compare",
        "userData": USER,
        "availableTools": [{"name": "web", "description": ""}],
        "executionConfig": {
            "model": "gpt-4",
            "temperature": 0.7,
            "autoApproveTools": False,
            "parallelExecutionLimit": 5,
        },
        "name": "Scan",
        "description": "",
        "organizationId": "o1",
    },
    "allocation": {
        "maxCredits": "1000",
        "maxDurationMs": 60_000,
        "maxMemoryMB": None,
        "maxConcurrentSteps": None,
        "maxTokens": 5000,
        "spare": 1,
    },
    "timeout": 600_000,
    "extra": {"kept": [None]},
}
#: OLD: runs had their fields at the top.
FLAT_RUN: dict[str, Any] = {
    "type": "run-start",
    "id": "b1",
    "status": "Scheduled",
    "runId": "r1",
    "config": {"isTimeSensitive": True, "limits": {"maxCredits": "5"}},
    "formValues": {"__proto__": 1},
    "isNewRun": True,
    "resourceVersionId": "v1",
    "runFrom": "Api",
    "startedById": "u1",
    "userData": USER,
}
NEW_RUN: dict[str, Any] = {
    "type": "run-start",
    "id": "b1",
    "status": "Scheduled",
    "context": {"swarmId": None, "userData": USER},
    "input": {
        "runId": "r1",
        "config": {"isTimeSensitive": True, "limits": {"maxCredits": "5"}},
        "formValues": {"__proto__": 1},
        "isNewRun": True,
        "resourceVersionId": "v1",
        "runFrom": "Api",
        "startedById": "u1",
    },
    "allocation": None,
}
PAIRS = pytest.mark.parametrize(
    ("older", "newer", "model", "shape"),
    [(FLAT_SWARM, NEW_SWARM, SwarmExecution, FlatSwarm), (FLAT_RUN, NEW_RUN, RunStart, FlatRun)],
    ids=["swarm", "run"],
)


@PAIRS
def test_both_shapes_are_one_task(older: Any, newer: Any, model: type[Task], shape: type) -> None:
    old, new = decode(older), decode(newer)
    assert type(old) is type(new) is model
    assert old == new
    assert type(old.as_written()) is shape
    assert new.as_written() is new


@PAIRS
def test_each_shape_is_written_back_as_it_came(older: Any, newer: Any, model: type[Task], shape: type) -> None:
    for data in (older, newer):
        before = copy.deepcopy(data)
        assert encode(decode(data)) == before
        assert data == before


@PAIRS
def test_renewed_task_is_written_in_the_newest_shape(older: Any, newer: Any, model: type[Task], shape: type) -> None:
    task = decode(older)
    assert isinstance(task, SwarmExecution | RunStart)
    assert encode(task.renewed()) == newer
    assert encode(task) == older


@PAIRS
def test_both_shapes_have_one_priority(older: Any, newer: Any, model: type[Task], shape: type) -> None:
    assert calculate_priority(decode(older)) == calculate_priority(decode(newer))
    assert calculate_priority(decode(older), rule="node") == calculate_priority(decode(newer), rule="node")


def test_change_is_written_in_the_shape_it_came_in() -> None:
    task = decode(FLAT_SWARM)
    assert isinstance(task, SwarmExecution)
    changed = task.model_copy(
        update={
            "status": "Running",
            "input": task.input.model_copy(update={"goal": "Contrast"}),
            "allocation": task.allocation.model_copy(update={"max_credits": 7}),
        }
    )
    expected = copy.deepcopy(FLAT_SWARM) | {"status": "Running"}
    expected["config"]["goal"] = "Contrast"
    expected["config"]["resources"]["maxCredits"] = 7
    assert encode(changed) == expected


def test_change_without_a_place_there_is_refused() -> None:
    task = decode(FLAT_SWARM)
    assert isinstance(task, SwarmExecution)
    changed = task.model_copy(update={"input": task.input.model_copy(update={"chat_id": "c1"})})
    with pytest.raises(LoweringError, match=r"^input: FlatSwarm has no place for it; write the task renewed\(\)$"):
        encode(changed)
    assert encode(changed.renewed())["input"]["chatId"] == "c1"


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        # "input" in data → CODE
        ({"input": {}}, SwarmExecution),
        ({"input": None}, SwarmExecution),
        ({"input": {}, "config": {}, "swarmId": "s"}, SwarmExecution),
        ({"input": {}, "context": {}, "config": {}, "swarmId": "s", "runId": "r"}, SwarmExecution),
        # "config" in data and "swarmId" in data → OLD/DOC swarm
        ({"config": {}, "swarmId": "s"}, FlatSwarm),
        ({"config": None, "swarmId": None}, FlatSwarm),
        ({"config": {}, "swarmId": "s", "context": {}}, FlatSwarm),
        ({"config": {}, "swarmId": "s", "allocation": {}, "options": {}, "runId": "r"}, FlatSwarm),
        # neither: measured by the newest
        ({"context": {}}, SwarmExecution),
        ({"context": {}, "config": {}}, SwarmExecution),
        ({"swarmId": "s"}, SwarmExecution),
        ({"config": {}}, SwarmExecution),
        ({"runId": "r", "config": {}}, SwarmExecution),
        ({}, SwarmExecution),
        (None, SwarmExecution),
    ],
)
def test_swarms_are_told_apart_by_nodes_rule(data: Any, shape: type) -> None:
    assert SwarmExecution.shape_of(data) is shape


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        # "input" in data → CODE
        ({"input": {}}, RunStart),
        ({"input": None}, RunStart),
        ({"input": {}, "runId": "r"}, RunStart),
        ({"input": {}, "config": {}, "swarmId": "s"}, RunStart),
        # top-level runId → OLD run
        ({"runId": "r"}, FlatRun),
        ({"runId": None}, FlatRun),
        ({"runId": "r", "context": {}}, FlatRun),
        ({"runId": "r", "config": {}, "swarmId": "s", "allocation": {}}, FlatRun),
        # neither: measured by the newest
        ({"context": {}}, RunStart),
        ({"config": {}}, RunStart),
        ({"config": {}, "swarmId": "s"}, RunStart),
        ({"isNewRun": True, "formValues": {}, "resourceVersionId": "v"}, RunStart),
        ({}, RunStart),
        ([], RunStart),
    ],
)
def test_runs_are_told_apart_by_nodes_rule(data: Any, shape: type) -> None:
    assert RunStart.shape_of(data) is shape


@pytest.mark.parametrize(
    ("older", "extra"),
    [(FLAT_SWARM, {"context": {"swarmId": "other"}}), (FLAT_RUN, {"context": None, "allocation": {"maxCredits": "1"}})],
)
def test_older_data_with_a_field_of_the_newest_are_older_ones(older: dict[str, Any], extra: dict[str, Any]) -> None:
    task: Any = decode(older | extra)
    assert encode(task) == older | extra
    assert task.context == decode(older).context  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (FLAT_SWARM | {"swarmId": 7}, "data.swarmId"),
        (FLAT_SWARM | {"config": {"goal": None}}, "data.config.goal"),
        (NEW_SWARM | {"input": {"goal": 1, "userData": USER}}, "data.input.goal"),
        (FLAT_RUN | {"isNewRun": "yes"}, "data.isNewRun"),
        (NEW_RUN | {"input": []}, "data.input"),
    ],
)
def test_problem_is_named_by_the_path_in_the_producers_shape(data: Any, path: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(data)
    assert error.value.path == path


@pytest.mark.parametrize("extra", [{}, {"taskContexts": []}, {"allocation": None}, {"options": {"priority": "high"}}])
def test_completions_of_every_vintage_are_one_model(extra: dict[str, Any]) -> None:
    data = {"type": "llm-completion", "id": "1", "chatId": "c", "messageId": "m", "userData": USER, **extra}
    task = decode(data)
    assert isinstance(task, LlmCompletion)
    assert encode(task) == data


def test_inputs_that_node_does_not_declare_are_kept() -> None:
    data = copy.deepcopy(NEW_RUN)
    data["input"]["config"]["inputs"] = {"q": 1}
    data["context"]["timestamp"] = WHEN
    assert encode(decode(data)) == data

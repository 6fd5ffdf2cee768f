"""Every shape of every task is understood, and written back as its producer wrote it."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from tasks import TASKS, AnyTask
from tasks.base import Envelope
from tasks.codec import decode, encode
from tests.unit.tasks.wire_data import EXAMPLES, SHAPES, of_shape, same

ANY: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
QUICK = (Phase.explicit, Phase.generate, Phase.shrink)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@settings(deadline=None, max_examples=40, phases=QUICK, database=None)
@given(st.data())
def test_generated_data_of_every_shape_come_back_as_they_were(shape: type[Envelope], data: st.DataObject) -> None:
    wire = data.draw(of_shape(shape))
    before = copy.deepcopy(wire)

    task = decode(wire)

    assert type(task) is TASKS[wire["type"]]
    assert type(task.as_written()) is shape
    assert same(encode(task), before)
    assert same(wire, before), "what was decoded has been changed"


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_nodes_jobs_come_back_as_they_were(job: dict[str, Any]) -> None:
    task = decode(job["data"])
    assert same(encode(task), job["data"])
    assert json.dumps(encode(task), sort_keys=True) == json.dumps(job["data"], sort_keys=True)


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_nodes_jobs_survive_copying_and_pickling(job: dict[str, Any]) -> None:
    task = decode(job["data"])
    for other in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task)), task.model_copy()):
        assert other == task
        assert encode(other) == job["data"]


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_any_task_reads_the_same(job: dict[str, Any]) -> None:
    assert ANY.validate_python(job["data"]) == decode(job["data"])


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_status_is_changed_and_all_else_stays(job: dict[str, Any]) -> None:
    task = decode(job["data"]).model_copy(update={"status": "Running"})
    assert encode(task) == job["data"] | {"status": "Running"}


def undeclared(value: Any, way: str = "") -> set[str]:
    """The fields in a task that no model declares."""
    match value:
        case BaseModel():
            found = {f"{way}{name}" for name in value.model_extra or {}}
            for name in type(value).model_fields:
                found |= undeclared(getattr(value, name), f"{way}{name}.")
            return found
        case list():
            return {each for item in value for each in undeclared(item, way)}
    return set()


def test_all_that_node_writes_is_declared() -> None:
    tasks = [decode(job["data"]) for job in EXAMPLES]
    found = {f"{task.type}.{name}" for task in tasks for name in undeclared(task) | undeclared(task.as_written())}
    assert found == {"run-start.input.config.inputs"}  # the one that Node's own types don't declare either

"""Each of Node's producers is understood, written back as it wrote, and prioritised and named as Node does it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tasks import TASKS
from tasks.codec import decode, encode
from tasks.ids import job_id_for
from tasks.priority import calculate_priority
from tests.unit.tasks.producers import PRODUCERS, Producer
from tests.unit.tasks.wire_data import EXAMPLES, same

each_producer = pytest.mark.parametrize("producer", PRODUCERS, ids=lambda each: each.name)
each_example = pytest.mark.parametrize("job", EXAMPLES, ids=lambda each: each["data"]["type"])


@each_producer
def test_producers_job_is_decoded_and_comes_back(producer: Producer) -> None:
    before = copy.deepcopy(producer.data)
    task = decode(json.loads(json.dumps(producer.data)))
    assert type(task) is TASKS[producer.data["type"]]
    assert same(encode(task), before)


@each_producer
def test_producers_job_has_the_priority_that_node_sets(producer: Producer) -> None:
    assert calculate_priority(decode(producer.data), rule="node") == producer.priority


@each_producer
def test_producers_job_gets_the_id_that_node_gives(producer: Producer) -> None:
    if producer.job_id is not None:
        assert job_id_for(decode(producer.data)) == producer.job_id


@each_example
def test_examples_have_the_priority_that_node_has_set(job: dict[str, Any]) -> None:
    assert calculate_priority(decode(job["data"]), rule="node") == job["opts"].get("priority", 0)


@each_example
def test_examples_get_the_id_that_node_has_given(job: dict[str, Any]) -> None:
    if "jobId" in job["opts"]:  # else Node's raw add: BullMQ counts
        assert job_id_for(decode(job["data"])) == job["opts"]["jobId"]


def test_every_vintage_is_among_the_producers() -> None:
    """Each shape of each type, and both kinds of mail; the flat swarm is among the examples alone."""
    data = [each.data for each in PRODUCERS] + [job["data"] for job in EXAMPLES]
    shapes = {TASKS[each["type"]].shape_of(each) for each in data}
    assert shapes >= {shape for model in TASKS.values() for shape in (model, *model.OLDER_SHAPES)}
    completions = [each.data for each in PRODUCERS if each.data["type"] == "llm-completion"]
    assert {"allocation" in each for each in completions} == {True, False}
    mails = [each.data for each in PRODUCERS if each.data["type"] == "email-send"]
    assert {("template" in each, "id" in each) for each in mails} == {(False, True), (True, False), (True, True)}

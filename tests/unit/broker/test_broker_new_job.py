"""A job's options and arguments as BullMQ for Node writes them."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from workers.broker.add_script import ADDERS, KEYS, MARKER, text
from workers.broker.hold import Parent
from workers.broker.new_job import NewJob, arguments, written
from workers.broker.producer import json_of


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {"attempts": 0}),
        ({"attempts": 3, "delay": None, "jobId": "a"}, {"attempts": 3, "jobId": "a"}),
        ({"backoff": 50}, {"attempts": 0, "backoff": {"type": "fixed", "delay": 50}}),
        ({"backoff": 0}, {"attempts": 0, "backoff": {"type": "fixed", "delay": 0}}),
        ({"backoff": {"type": "x"}}, {"attempts": 0, "backoff": {"type": "x"}}),
        ({"deduplication": {"id": "d"}}, {"attempts": 0, "de": {"id": "d"}}),
        ({"debounce": {"id": "d"}}, {"attempts": 0, "de": {"id": "d"}}),
        ({"de": {"id": "d"}}, {"attempts": 0, "de": {"id": "d"}}),
        (
            {"failParentOnFailure": True, "removeDependencyOnFailure": False, "keepLogs": 3},
            {"attempts": 0, "fpof": True, "rdof": False, "kl": 3},
        ),
        ({"continueParentOnFailure": True}, {"attempts": 0, "cpof": True}),
        ({"ignoreDependencyOnFailure": True}, {"attempts": 0, "idof": True}),
        ({"telemetry": {"metadata": "m", "omitContext": True}}, {"attempts": 0, "tm": "m", "omc": True}),
        ({"telemetry": {}}, {"attempts": 0}),
        ({"timeout": 600_000, "unknown": [1]}, {"attempts": 0, "timeout": 600_000, "unknown": [1]}),
    ],
)
def test_options_are_written_under_nodes_names(given: dict[str, Any], stored: dict[str, Any]) -> None:
    assert written(given) == stored
    assert written(written(given)) == stored


@pytest.mark.parametrize(
    ("opts", "children", "kind"),
    [
        ({}, False, "standard"),
        ({"delay": 0, "priority": 0}, False, "standard"),
        ({"priority": 1}, False, "prioritized"),
        ({"delay": 0.5, "priority": 1}, False, "delayed"),
        ({"delay": 5}, True, "parent"),
    ],
)
def test_kind_is_chosen_as_node_does(opts: dict[str, Any], children: bool, kind: str) -> None:
    assert NewJob(queue="q", name="n", data="{}", opts=opts, has_children=children).kind == kind


def unpacked(job: NewJob) -> tuple[list[Any], str, dict[str, Any]]:
    packed, data, opts = arguments(job, "bull:q:", 1_700_000_000_000, msgpack.packb)
    return msgpack.unpackb(packed), data, msgpack.unpackb(opts)


def test_arguments_of_a_plain_job() -> None:
    packed, data, opts = unpacked(NewJob(queue="q", name="n", data='{"a":1}', opts={"attempts": 2}))
    assert packed == ["bull:q:", "", "n", 1_700_000_000_000, None, None, None, None, None]
    assert (data, opts) == ('{"a":1}', {"attempts": 2})


def test_arguments_of_a_child_with_all_that_a_job_may_have() -> None:
    opts = {"timestamp": 5, "idof": True, "de": {"id": "d:é"}}
    job = NewJob(queue="q", name="n", data="{}", opts=opts, id="a", parent=Parent("p:1", "bull:parents"))
    packed, _, stored = unpacked(job)
    assert packed == [
        "bull:q:",
        "a",
        "n",
        5,
        "bull:parents:p:1",
        "bull:parents:p:1:dependencies",
        {"id": "p:1", "queueKey": "bull:parents", "idof": True},
        None,
        "bull:q:de:d:é",
    ]
    assert stored["parent"] == {"id": "p:1", "queue": "bull:parents"}


@pytest.mark.parametrize("bad", [{"v": {1}}, {"v": 2**70}, {"v": "\ud800"}])
def test_what_can_not_be_packed_is_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        arguments(NewJob(queue="q", name="n", data="{}", opts=bad), "b", 1, msgpack.packb)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        ({"é😀": "\n\u2028"}, '{"é😀":"\\n\u2028"}'),
        ({"half": "\ud800é"}, '{"half":"\\ud800\\u00e9"}'),
    ],
)
def test_data_are_written_as_node_writes_them(data: Any, said: str) -> None:
    assert json_of(data) == (said, len(said.encode()))
    assert json.loads(said) == data


def test_script_holds_bullmqs_own_unchanged_and_names_the_keys_that_they_take() -> None:
    whole = text()
    assert MARKER not in whole
    assert len(KEYS) == len(set(KEYS)) == 13
    for kind, (_, keys) in ADDERS.items():
        assert f'adders["{kind}"] = function(KEYS, ARGV)' in whole
        assert set(keys) <= set(KEYS)

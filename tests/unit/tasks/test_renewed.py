"""A renewed task says, in the newest shape, all that its producer said in an older one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.base import Envelope, Task
from tasks.codec import decode, encode
from tasks.run_flat import FlatRun
from tasks.swarm_flat import FlatSwarm
from tasks.vintage import EvolvedTask, OlderShape
from tests.unit.tasks.older_leaves import at, leaves, unsaid
from tests.unit.tasks.test_vintages import FLAT_RUN, FLAT_SWARM
from tests.unit.tasks.wire_data import SHAPES, of_shape, same

OLDER: list[type[Envelope]] = [shape for shape in SHAPES if issubclass(shape, OlderShape)]
QUICK = (Phase.explicit, Phase.generate, Phase.shrink)


def renewed(flat: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task of these data, and its data in the newest shape."""
    task = decode(copy.deepcopy(flat))
    assert isinstance(task, EvolvedTask)
    assert isinstance(task.as_written(), OlderShape)
    return task, encode(task.renewed())


def test_all_older_shapes_are_looked_at() -> None:
    assert set(OLDER) == {FlatSwarm, FlatRun}, "a new one needs its places in older_leaves"


@pytest.mark.parametrize("shape", OLDER, ids=lambda shape: shape.__name__)
@settings(deadline=None, max_examples=150, phases=QUICK, database=None)
@given(st.data())
def test_each_value_is_in_its_place_and_the_meaning_stays(shape: type[Envelope], data: st.DataObject) -> None:
    flat = data.draw(of_shape(shape))
    task, newest = renewed(flat)

    assert unsaid(flat, newest) == []
    assert "input" in newest
    again = decode(newest)
    assert again == task
    assert same(encode(again), newest), "it was renewed into what is its own newest shape"


@pytest.mark.parametrize("flat", [FLAT_SWARM, FLAT_RUN], ids=["swarm", "run"])
def test_a_value_that_gets_lost_would_be_noticed(flat: dict[str, Any]) -> None:
    flat = flat | {"zz": 1}
    _, newest = renewed(flat)
    for way, _ in leaves(newest):
        if way != ("type",) and at(newest, way) is not None:
            less = copy.deepcopy(newest)
            del at(less, way[:-1])[way[-1]]
            assert unsaid(flat, less), way


def test_unknown_fields_of_objects_that_become_others_go_there() -> None:
    flat = copy.deepcopy(FLAT_SWARM)
    flat["config"]["zz"] = {"a": [None]}
    flat["config"]["resources"]["yy"] = False
    flat["config"]["resources"]["tools"][0]["xx"] = "x"
    flat["config"]["config"]["ww"] = 0
    _, newest = renewed(flat)
    assert newest["input"]["zz"] == {"a": [None]}
    assert newest["allocation"]["yy"] is False
    assert newest["allocation"]["spare"] == 1
    assert newest["input"]["availableTools"][0]["xx"] == "x"
    assert newest["input"]["executionConfig"]["ww"] == 0
    assert newest["extra"] == {"kept": [None]}


def test_unknown_field_with_the_name_of_a_declared_one_gets_an_underscore_behind_it() -> None:
    flat = copy.deepcopy(FLAT_SWARM) | {"context": "c", "options": "o", "options_": 1, "allocation": None}
    flat["config"] |= {"chatId": 7, "userData": {"id": "evil"}, "executionConfig": [], "executionConfig_": "mine"}
    flat["config"]["resources"] |= {"maxDurationMs": -1, "maxMemoryMB": "much"}
    task, newest = renewed(flat)
    assert (newest["context_"], newest["options__"], newest["options_"], newest["allocation_"]) == ("c", "o", 1, None)
    assert newest["input"]["chatId_"] == 7
    assert newest["input"]["userData"] == newest["context"]["userData"] == flat["userData"]
    assert newest["input"]["userData_"] == {"id": "evil"}
    assert (newest["input"]["executionConfig__"], newest["input"]["executionConfig_"]) == ([], "mine")
    assert newest["allocation"]["maxDurationMs"] == flat["config"]["resources"]["maxTime"]
    assert (newest["allocation"]["maxDurationMs_"], newest["allocation"]["maxMemoryMB_"]) == (-1, "much")
    assert "chatId" not in newest["input"]
    assert "options" not in newest
    assert decode(newest) == task
    assert encode(task) == flat


@pytest.mark.parametrize("flat", [FLAT_SWARM, FLAT_RUN], ids=["swarm", "run"])
def test_names_do_not_depend_on_the_order_of_fields(flat: dict[str, Any]) -> None:
    extra = {"options": 1, "options_": 2, "context": 3, "context_": 4, "context__": 5}
    _, one = renewed(flat | extra)
    _, other = renewed(dict(reversed((flat | extra).items())))
    assert one == other
    assert [one[name] for name in ("options_", "options__", "context_", "context__", "context___")] == [2, 1, 4, 5, 3]


def test_only_what_says_nothing_is_left_out() -> None:
    flat = copy.deepcopy(FLAT_SWARM) | {"organizationId": None, "userId": None, "extra": None}
    flat["config"] |= {"resources": {}, "name": None}
    _, newest = renewed(flat)
    assert "organizationId" not in newest["input"]
    assert "name" not in newest["input"]
    assert "userId" not in newest
    assert newest["extra"] is None
    assert {*newest["allocation"].values()} == {None}


def test_renewing_what_is_new_changes_nothing() -> None:
    _, newest = renewed(FLAT_SWARM)
    task = decode(newest)
    assert isinstance(task, EvolvedTask)
    assert task.renewed() == task
    assert encode(task.renewed()) == newest

"""Unknown fields come back whatever they are called: also by names of ours, and by names that are no Unicode."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, Literal

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tasks.base import Part, Task
from tasks.codec import DecodeError, decode, encode
from tasks.ids import job_id_for
from tasks.tier import tier_of
from tasks.vintage import EvolvedTask
from tests.unit.tasks.test_vintages import FLAT_RUN, FLAT_SWARM
from tests.unit.tasks.wire_data import EXAMPLES, HOSTILE_NAMES, holder_of, json_values, places, same
from workers.broker.result import dump
from workers.runtime.isolation.frames import Unpacker, pack

MAIL: dict[str, Any] = {"type": "email-send", "id": "1", "to": ["a@x.org"], "subject": "s", "text": "t"}
SURROGATES = ("\ud800", "\udfff", "a\ud83d", "\ude00b", "\ud800\ud800", "\0stand-in 0\udead")
NAMES = (*HOSTILE_NAMES, *SURROGATES, "\0stand-in 1", "schema_version", "idempotency_key", "max_credits", "kind")
QUICK = (Phase.explicit, Phase.generate, Phase.shrink)


def objects(data: Any) -> list[tuple[Any, ...]]:
    """The places of all objects."""
    return [(), *(place for place in places(data) if isinstance(holder_of(data, (*place, "")), dict))]


@pytest.mark.parametrize("told", [{}, {"userId": None}, {"userId": "7"}], ids=["absent", "null", "told"])
@pytest.mark.parametrize("unknown", [None, "u", 5, [], {"userId": None}])
@pytest.mark.parametrize("first", [True, False])
def test_field_and_an_unknown_one_called_as_it_is_in_python(told: dict[str, Any], unknown: Any, first: bool) -> None:
    data = {"user_id": unknown} | MAIL | told if first else MAIL | told | {"user_id": unknown}
    task = decode(data)
    assert task.user_id == told.get("userId")
    assert (task.model_extra or {})["user_id"] == unknown
    for other in (task, copy.deepcopy(task), pickle.loads(pickle.dumps(task)), task.model_copy()):
        assert encode(other) == data
        assert [*encode(other)].count("userId") == len(told)


@pytest.mark.parametrize("flat", [FLAT_SWARM, FLAT_RUN], ids=["swarm", "run"])
def test_the_same_in_parts_and_in_older_shapes(flat: dict[str, Any]) -> None:
    user = flat["userData"] | {"has_premium": "no", "hasPremium": None, "typename": None, "__typename": None}
    data = flat | {"userData": user, "user_id": "u", "userId": None, "run_id": 1, "organization_id": 2}
    task: Any = decode(data)
    assert (task.user_id, task.context.user_data.has_premium, tier_of(task)) == (None, None, "free")
    assert encode(task) == data
    newest = encode(task.renewed())
    assert newest["context"]["userData"] == user
    assert (newest["user_id"], newest["run_id"], newest["organization_id"]) == ("u", 1, 2)
    assert encode(decode(newest)) == newest


def test_change_beside_such_a_name() -> None:
    task = decode(MAIL | {"user_id": "u", "userId": None})
    assert encode(task.model_copy(update={"user_id": "7"})) == MAIL | {"user_id": "u", "userId": "7"}
    assert encode(task.model_copy(update={"status": "Running"})) == MAIL | {
        "user_id": "u",
        "userId": None,
        "status": "Running",
    }


class Bolt(Part):
    """A part of a test's task."""

    thread_size: int | None = None


class Plain(BaseModel):
    """A part that is none of ours."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", strict=True)

    thread_size: int | None = None


class Assembly(Task):
    """A task with parts in lists and by names."""

    type: Literal["assembly"] = "assembly"
    bolts: list[Bolt]
    by_place: dict[str, list[Bolt]] | None = None
    by_number: dict[str, int] | None = None
    plain: list[Plain] | None = None
    several: Bolt | list[Bolt] | None = None


TYPES = {"assembly": Assembly}


def test_names_are_kept_wherever_the_model_leads() -> None:
    data = {
        "type": "assembly",
        "id": "1",
        "bolts": [{"threadSize": 1}, {"thread_size": "x"}, {"threadSize": None, "thread_size": 2, "\ud800": 3}],
        "byPlace": {"\udfff": [{"\udfff": {"\udfff": 1}}], "thread_size": []},
        "byNumber": {"\ud800": 1, "bolts": 2},
        "plain": [{"thread_size": 1, "threadSize": None, "\ud800": 0}],
        "by_place": "\ud800",
    }
    task: Any = decode(data, TYPES)
    assert task.bolts[2].thread_size is None
    assert same(encode(task), data)
    assert same(data, copy.deepcopy(data))


def test_name_that_the_model_does_not_lead_to_is_refused() -> None:
    data = {"type": "assembly", "id": "1", "bolts": [], "several": [{"\ud800": 1}]}
    with pytest.raises(DecodeError) as error:
        decode(data, TYPES)
    assert "keys in valid Unicode" in str(error.value)
    str(error.value).encode()


def test_problem_beside_such_names_is_told_by_its_place() -> None:
    data = {"type": "assembly", "id": "1", "bolts": [{"\ud800": 1, "thread_size": 2, "threadSize": "x"}], "\udfff": 0}
    with pytest.raises(DecodeError) as error:
        decode(data, TYPES)
    assert str(error.value) == 'data.bolts.0.threadSize: expected an integer, found "x" (string)'


@pytest.mark.parametrize("index", range(len(EXAMPLES)), ids=lambda i: f"{i}-{EXAMPLES[i]['queue']}")
@pytest.mark.parametrize("name", SURROGATES, ids=ascii)
def test_lone_surrogates_in_any_object_go_all_the_way(index: int, name: str) -> None:
    """From the text that Redis has to the one it gets: as BullMQ's package, our results and our frames write JSON."""
    for place in objects(EXAMPLES[index]["data"]):
        data = copy.deepcopy(EXAMPLES[index]["data"])
        holder_of(data, (*place, ""))[name] = {name: name}
        text = json.dumps(data)
        task = decode(json.loads(text))
        out = encode(task)
        assert same(out, data)
        sent = json.dumps(out, separators=(",", ":"), allow_nan=False).encode()
        assert json.loads(sent) == data
        stored, note = dump(out)
        assert (json.loads(stored.encode()), note) == (data, None)
        unpacker = Unpacker()
        unpacker.feed(pack({"data": out}))
        assert unpacker.next() == {"data": data}
        assert job_id_for(task) == job_id_for(decode(EXAMPLES[index]["data"]))
        assert pickle.loads(pickle.dumps(task)) == task
        if isinstance(task, EvolvedTask):
            assert decode(json.loads(json.dumps(encode(task.renewed())))) == task


@settings(deadline=None, max_examples=80, phases=QUICK, database=None)
@given(st.data())
def test_any_names_in_any_objects_come_back(data: st.DataObject) -> None:
    wire = copy.deepcopy(data.draw(st.sampled_from(EXAMPLES))["data"])
    for _ in range(data.draw(st.integers(1, 5))):
        holder = holder_of(wire, (*data.draw(st.sampled_from(objects(wire))), ""))
        holder.setdefault(data.draw(st.sampled_from(NAMES)), data.draw(json_values))
    before = copy.deepcopy(wire)
    task = decode(wire)
    assert same(encode(task), before)
    assert same(wire, before), "what was decoded has been changed"
    if isinstance(task, EvolvedTask):
        newest = encode(task.renewed())
        assert same(encode(decode(newest)), newest)


def test_very_many_such_names_are_kept() -> None:
    """Each is looked at once; anything quadratic would not end."""
    names = {f"\ud800{number}": number for number in range(50_000)}
    assert same(encode(decode(MAIL | names)), MAIL | names)

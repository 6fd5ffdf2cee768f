"""Decoding and encoding: what survives, what is refused, and in which words."""

from __future__ import annotations

import copy
import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.alias_generators import to_camel

import tasks
from tasks import reading
from tasks.base import Task
from tasks.codec import DecodeError, Limits, UnknownTaskType, WireError, decode, encode
from tasks.email_send import EmailSend
from tasks.fail_fast import fail_fast
from tasks.problem import problem
from tasks.wire import Reading

EXAMPLES = json.loads((Path(__file__).parents[3] / "workers/dev/example_jobs.json").read_text())
EMAILS = [each["data"] for each in EXAMPLES if each["data"]["type"] == "email-send"]
QUICK = settings(deadline=None, max_examples=50, phases=(Phase.explicit, Phase.generate, Phase.shrink), database=None)
VALID: dict[str, Any] = {"type": "email-send", "id": "a:reset", "to": ["dana@x.org"], "subject": "s", "text": "t"}

text = st.text(st.characters(), max_size=80)  # lone surrogates included
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def nested(levels: int) -> list[Any]:
    """A list in a list in a list …"""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def same(left: Any, right: Any) -> bool:
    """Equality for which NaN equals NaN."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and bool(left == right)


@pytest.mark.parametrize("data", EMAILS)
def test_nodes_mails_come_back_as_they_were(data: dict[str, Any]) -> None:
    task = decode(data)
    assert isinstance(task, EmailSend)
    assert (task.id, task.to, task.subject, task.text) == (data["id"], data["to"], data["subject"], data["text"])
    assert task.html == data["html"]
    assert encode(task) == data


def test_nodes_examples_hold_both_kinds_of_mail() -> None:
    assert [data["id"] for data in EMAILS] == ["k3j9x0ab12cd:reset-password", "p0w3k9zz18ab"]


@QUICK
@given(
    st.dictionaries(keys, json_values, max_size=6),
    st.fixed_dictionaries(
        {"id": text, "to": st.lists(text, min_size=1, max_size=3), "subject": text, "text": text},
        optional={"html": text | st.none(), "userId": text | st.none(), "status": text},
    ),
)
@example({"user_id": 5, "__proto__": {"a": 1}, "__dict__": 1, "model_fields": [], "model_config": None}, {})
@example({"nan": math.nan, "huge": 10**400}, {"userId": None})
def test_round_trip_keeps_every_key_and_value(extra: dict[str, Any], fields: dict[str, Any]) -> None:
    data = {**extra, **VALID, **fields}
    for key in ("html", "userId", "status"):
        if key not in fields:
            data.pop(key, None)
    before = copy.deepcopy(data)

    assert same(encode(decode(data)), before)


@QUICK
@given(
    st.sampled_from([("id",), ("to",), ("to", 1), ("subject",), ("text",), ("html",), ("userId",), ("status",)]),
    st.integers() | st.floats() | st.booleans() | st.dictionaries(text, scalars) | st.just(10**5000),
)
def test_wrong_type_is_named_by_its_path(where: tuple[str] | tuple[str, int], value: Any) -> None:
    data = copy.deepcopy(VALID) | {"to": ["a@x.org", "b@x.org", "c@x.org"]}
    if len(where) == 2:
        data[where[0]][where[1]] = value
    else:
        data[where[0]] = value

    with pytest.raises(DecodeError) as error:
        decode(data)

    (problem,) = error.value.problems
    assert problem.path == ".".join(["data", *map(str, where)])
    assert problem.expected == ("a list" if where == ("to",) else "a string")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("field", ["id", "to", "subject", "text"])
def test_missing_field_is_named_with_what_it_should_be(field: str) -> None:
    data = {key: value for key, value in VALID.items() if key != field}
    with pytest.raises(DecodeError) as error:
        decode(data)
    kind = "a list" if field == "to" else "a string"
    assert str(error.value) == f"data.{field}: expected {kind}, found nothing"


@QUICK
@given(json_values)
@example({5: 6, "type": "email-send"})
@example({"type": "email-send", "\ud800": 1})
def test_whatever_the_data_only_wire_errors_are_raised(data: Any) -> None:
    with pytest.raises(WireError) as error:
        decode(data)
    assert len(str(error.value)) < 1200
    assert str(error.value).isprintable()


def test_unknown_fields_may_nest_to_the_bound_and_no_level_more() -> None:
    deepest = VALID | {"extra": nested(Limits().max_depth - 2)}  # the data are a level, and so is the innermost list
    assert encode(decode(deepest)) == deepest
    with pytest.raises(DecodeError, match=r"^data\.extra(\.0){11}\.…: expected at most 100 levels, found more$"):
        decode(VALID | {"extra": nested(Limits().max_depth - 1)})


def test_what_nests_beyond_recursion_is_refused_unless_the_bound_is_set_higher() -> None:
    data = VALID | {"extra": nested(100_000)}
    with pytest.raises(DecodeError, match="expected at most 100 levels, found more"):
        decode(data)
    value, levels = encode(decode(data, limits=Limits(max_depth=100_002)))["extra"], 0
    while value:
        value, levels = value[0], levels + 1
    assert levels == 100_000


@pytest.mark.parametrize(
    "data", [nested(100_000), {"type": nested(100_000)}, VALID | {"to": nested(100_000)}], ids=["data", "type", "to"]
)
def test_nesting_in_the_wrong_place_is_refused(data: Any) -> None:
    with pytest.raises(DecodeError):
        decode(data)


@QUICK
@given(st.dictionaries(st.sampled_from([*VALID, "html", "userId", "status", "extra"]), json_values))
def test_mutated_mail_decodes_or_says_where_it_is_wrong(changes: dict[str, Any]) -> None:
    try:
        decode(VALID | changes)
    except DecodeError as error:
        assert {problem.path.split(".")[1] for problem in error.problems} <= changes.keys()
    except UnknownTaskType as error:
        assert error.name == changes["type"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data: expected an object, found a list"),
        (None, "data: expected an object, found null"),
        ("text", 'data: expected an object, found "text" (string)'),
        (7, "data: expected an object, found 7 (integer)"),
        ({}, "data.type: expected a string, found nothing"),
        ({"type": None}, "data.type: expected a string, found null"),
        (VALID | {"to": []}, "data.to: expected a length of at least 1, found an empty list"),
        (VALID | {"to": "dana@x.org"}, 'data.to: expected a list, found "dana@x.org" (string)'),
        (VALID | {"to": [7]}, "data.to.0: expected a string, found 7 (integer)"),
        (VALID | {"html": ["<p>"]}, "data.html: expected a string, found a list of 1"),
        (
            {"type": "email-send", "id": "w", "to": ["a@x.org"], "data": {"name": "Dana"}},
            "data.subject: expected a string, found nothing; data.text: expected a string, found nothing",
        ),
    ],
)
def test_error_texts(data: Any, message: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(data)
    assert str(error.value) == message
    assert (error.value.path, error.value.expected, error.value.found) == (
        error.value.problems[0].path,
        error.value.problems[0].expected,
        error.value.problems[0].found,
    )


def test_long_texts_are_measured_and_not_quoted() -> None:
    with pytest.raises(DecodeError) as error:
        decode(VALID | {"to": "my password is hunter2, please keep it to yourself"})
    assert str(error.value) == "data.to: expected a list, found a string of 50 characters"


def test_the_first_bad_recipient_ends_the_search() -> None:
    with pytest.raises(DecodeError) as error:
        decode(VALID | {"to": ["a@x.org", *[7] * 50_000]})
    assert str(error.value) == "data.to.1: expected a string, found 7 (integer)"


def test_unknown_type_is_no_decode_error() -> None:
    with pytest.raises(UnknownTaskType) as error:
        decode({"type": "hologram-send"})
    assert not isinstance(error.value, DecodeError)
    assert error.value.name == "hologram-send"
    assert str(error.value) == 'data.type: expected a task type known here, found "hologram-send" (string)'


def test_made_task_is_written_with_its_type_and_nothing_unset() -> None:
    task = EmailSend(id="1", to=["a@x.org"], subject="s", text="t")
    assert encode(task) == {"type": "email-send", "id": "1", "to": ["a@x.org"], "subject": "s", "text": "t"}
    assert encode(EmailSend(id="1", to=["a"], subject="", text="", user_id="7"))["userId"] == "7"


def test_written_data_is_not_shared_with_the_task() -> None:
    task = decode(VALID | {"extra": {"list": [1]}})
    encode(task)["extra"]["list"].append(2)
    assert encode(task)["extra"] == {"list": [1]}


class Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", strict=True)

    part_name: str
    size: int = 0


class Assembly(Task):
    type: Literal["assembly"] = "assembly"
    parts: list[Part]
    by_place: dict[str, Part] | None = None


@pytest.fixture
def assembly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS", {"assembly": Assembly})


@pytest.mark.usefixtures("assembly")
def test_nested_models_round_trip_with_their_unknown_fields() -> None:
    data = {
        "type": "assembly",
        "id": "1",
        "parts": [{"partName": "bolt", "colour": "red"}, {"partName": "nut", "size": 3}],
        "byPlace": {"left": {"partName": "bolt", "part_name": "an unknown field"}},
    }
    assert encode(decode(data)) == data


@pytest.mark.usefixtures("assembly")
def test_nested_problems_are_named_by_their_path_and_listed_up_to_five() -> None:
    parts: list[Any] = [{"partName": 1}, {"size": "big"}, 7, {"partName": "x", "size": 2.5}, {"partName": None}]
    with pytest.raises(DecodeError) as error:
        decode({"type": "assembly", "id": "1", "parts": parts})
    assert str(error.value).split("; ") == [
        "data.parts.0.partName: expected a string, found 1 (integer)",
        "data.parts.1.partName: expected a string, found nothing",
        'data.parts.1.size: expected an integer, found "big" (string)',
        "data.parts.2: expected an object, found 7 (integer)",
        "data.parts.3.size: expected an integer, found 2.5 (number)",
        "and 1 more",
    ]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is looked at one by one, which costs memory."""
    examined: list[Any] = []

    def examine(error: Any, shape: Any) -> Any:
        examined.append(error)
        return problem(error, shape)

    monkeypatch.setattr("tasks.reading.problem", examine)
    return examined


@pytest.mark.usefixtures("assembly")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": [7] * 20_000}, "data.parts.0: expected an object, found 7 (integer); and 19999 more"),
        (
            {"parts": [*[{"partName": "fine"}] * 20_000, *[7] * 20_000]},
            "data.parts.20000: expected an object, found 7 (integer); and 19999 more",
        ),
        (
            {
                "parts": [{"size": "big", "\ud800": 1}] * 2_000,
                "byPlace": {"left": {}, **{str(n): 7 for n in range(999)}},
            },
            "data.parts.0.partName: expected a string, found nothing; "
            'data.parts.0.size: expected an integer, found "big" (string); '
            "data.byPlace.left.partName: expected a string, found nothing; and 4997 more",
        ),
        (
            {"id": 7, "parts": [], "byPlace": {f"p{n}": 7 for n in range(5_000)}},
            "data.id: expected a string, found 7 (integer); "
            "data.byPlace.p0: expected an object, found 7 (integer); and 4999 more",
        ),
    ],
)
def test_the_first_of_very_many_problems_are_named_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    examined = counted(monkeypatch)
    with pytest.raises(DecodeError) as error:
        decode({"type": "assembly", "id": "1"} | change)
    assert str(error.value) == message
    assert len(examined) == len(error.value.problems) <= 3
    assert error.value.count > reading.MAX_EXAMINED


FIELDS: dict[str, Any] = {f"f{number}": (int, ...) for number in range(reading.MAX_EXAMINED + 1)}
Wide: Any = create_model("Wide", **FIELDS)


class Heap(Task):
    """More fields than are looked at."""

    type: Literal["heap"] = "heap"
    wide: Wide


def test_too_many_fields_are_counted_and_not_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    examined = counted(monkeypatch)
    with pytest.raises(DecodeError) as error:
        decode({"type": "heap", "id": "1", "wide": {}}, {"heap": Heap})
    assert str(error.value) == "data: expected the fields of heap, found others; and 1000 more"
    assert not examined


@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_a_quick_look_takes_and_refuses_the_same(job: dict[str, Any]) -> None:
    shape = tasks.TASKS[job["data"]["type"]].shape_of(job["data"])
    quick = fail_fast(shape)
    read: dict[str, Any] = {"by_alias": True, "by_name": False, "context": Reading()}
    assert quick.validate_python(job["data"], **read) == shape.__pydantic_validator__.validate_python(
        job["data"], **read
    )
    for field in job["data"]:
        wrong = job["data"] | {field: {"no": [object()]}}
        with pytest.raises(ValidationError) if _refused(shape, wrong, read) else nullcontext():
            quick.validate_python(wrong, **read)


def _refused(shape: Any, data: dict[str, Any], read: dict[str, Any]) -> bool:
    try:
        shape.__pydantic_validator__.validate_python(data, **read)
    except ValidationError:
        return True
    return False

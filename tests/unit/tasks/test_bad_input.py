"""What a hostile or broken producer may send: refused in few words, in little time, or kept as it is."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.codec import DecodeError, UnknownTaskType, WireError, decode, encode
from tests.unit.tasks.wire_data import EXAMPLES, holder_of, places, same

MAIL: dict[str, Any] = {"type": "email-send", "id": "1", "to": ["a@x.org"], "subject": "s", "text": "t"}
BY_TYPE = {each["data"]["type"]: each["data"] for each in EXAMPLES}
HUGE = "x" * 10_000_000
#: Of CPU, and generous: a 10 MB text is refused in well under a tenth of it.
SECONDS = 5.0


def refused(data: Any) -> DecodeError:
    """Why these are refused: bounded, on one line, and soon."""
    started = time.process_time()
    with pytest.raises(DecodeError) as error:
        decode(data)
    assert time.process_time() - started < SECONDS
    assert len(str(error.value)) < 1200
    assert str(error.value).isprintable()
    str(error.value).encode()
    return error.value


@pytest.mark.parametrize("field", ["subject", "text", "html", "id", "userId", "extra"])
def test_ten_megabytes_of_text_are_text(field: str) -> None:
    task = decode(MAIL | {field: HUGE})
    assert encode(task)[field] == HUGE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"to": HUGE}, "data.to: expected a list, found a string of 10000000 characters"),
        ({"timeout": HUGE}, "data.timeout: expected a number, found a string of 10000000 characters"),
        ({"schemaVersion": HUGE}, "data.schemaVersion: expected an integer, found a string of 10000000 characters"),
        ({"data": HUGE}, "data.data: expected an object, found a string of 10000000 characters"),
    ],
)
def test_ten_megabytes_in_the_wrong_place_are_measured_and_not_quoted(change: dict[str, Any], message: str) -> None:
    assert str(refused(MAIL | change)) == message


def test_ten_megabytes_of_digits_are_no_credits_and_no_key() -> None:
    digits = "7" * 10_000_000
    user = BY_TYPE["sandbox-execution"]["userData"]
    error = refused(BY_TYPE["sandbox-execution"] | {"userData": user | {"credits": digits}})
    assert str(error) == (
        'data.userData.credits: expected an integer in a string, or "unlimited", found a string of 10000000 characters'
    )
    assert refused(BY_TYPE["notification-create"] | {"id": digits}).path == "data.id"


def test_type_of_ten_megabytes_is_unknown_and_not_quoted() -> None:
    with pytest.raises(UnknownTaskType) as error:
        decode(MAIL | {"type": HUGE})
    assert str(error.value) == "data.type: expected a task type known here, found a string of 10000000 characters"


def test_name_of_ten_megabytes_is_kept_and_cut_where_it_is_told() -> None:
    assert encode(decode(MAIL | {HUGE: 1}))[HUGE] == 1
    data = MAIL | {"x": 1}
    for _ in range(150):
        data = MAIL | {HUGE[:1000]: data}
    assert len(refused(data).path) < 1000


@pytest.mark.parametrize("levels", [99, 1000, 100_000])
@pytest.mark.parametrize("kind", [list, dict])
def test_deep_nesting_is_refused_wherever_it_is(levels: int, kind: type) -> None:
    value: Any = kind()
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    for job in EXAMPLES:
        for field in ("extra", *job["data"]):
            if field != "type":
                assert "levels" in str(refused(job["data"] | {field: value}))
    with pytest.raises(DecodeError):
        decode({"type": value})
    with pytest.raises(DecodeError):
        decode(value)


NUMBERS = (math.nan, math.inf, -math.inf, 1e308, 10**400, -(10**400), 2**53, -(2**53))


def numeric() -> Iterator[tuple[dict[str, Any], str]]:
    """Data with each number in a place of its own, and that place."""
    swarm = next(each["data"] for each in EXAMPLES if "input" in each["data"])
    for number in NUMBERS:
        yield MAIL | {"timeout": number}, "data.timeout"
        config = swarm["input"]["executionConfig"] | {"temperature": number}
        wanted = swarm["input"] | {"executionConfig": config}
        yield swarm | {"input": wanted}, "data.input.executionConfig.temperature"
        yield swarm | {"allocation": swarm["allocation"] | {"maxMemoryMB": number}}, "data.allocation.maxMemoryMB"
        yield swarm | {"allocation": swarm["allocation"] | {"maxCredits": number}}, "data.allocation.maxCredits"


@pytest.mark.parametrize(("data", "path"), [*numeric()])
def test_number_that_is_none_in_json_or_not_exact_in_javascript(data: dict[str, Any], path: str) -> None:
    """1e308 is a number, if a strange one; as a count it is refused."""
    if 1e308 in (data.get("timeout"), data.get("input", {}).get("executionConfig", {}).get("temperature")):
        assert encode(decode(data)) == data
    else:
        assert refused(data).path == path


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number:.30}" if isinstance(number, float) else "huge")
def test_numbers_in_unknown_fields_are_kept(number: float) -> None:
    data = MAIL | {"extra": [number, {"n": number}]}
    assert same(encode(decode(data)), data)


def test_lone_surrogates_are_kept_as_json_writes_them() -> None:
    """In names as in values; more of names in test_unknown_names."""
    values = {"subject": "\ud800", "extra": "\udfff", "data": {"\ud83d": "\ude00"}, "\udead": {"\ud800": 1}}
    wire = json.dumps(MAIL | values)
    data = json.loads(wire)
    assert json.dumps(encode(decode(data)), sort_keys=True) == json.dumps(data, sort_keys=True)


@pytest.mark.parametrize("name", ["__proto__", "constructor", "prototype", "__class__", "__dict__", "model_extra"])
@pytest.mark.parametrize("job", EXAMPLES, ids=lambda job: job["data"]["type"])
def test_names_that_poison_elsewhere_are_unknown_fields(job: dict[str, Any], name: str) -> None:
    poison = {"admin": True, "hasPremium": True, "type": "run-start"}
    data = json.loads(json.dumps(job["data"] | {name: poison}))
    task = decode(data)
    assert type(task) is type(decode(job["data"]))
    assert not hasattr(task, "admin")
    assert encode(task) == data


@pytest.mark.parametrize("data", [None, True, 7, 1.5, "x", [], [MAIL], (), object(), {7: 1}, {"type": ["email-send"]}])
def test_what_is_no_task_at_all_is_a_wire_error(data: Any) -> None:
    with pytest.raises(WireError) as error:
        decode(data)
    assert len(str(error.value)) < 200


def test_secret_in_a_wrong_place_is_not_told() -> None:
    secret = "hunter2-" + "s3cr3t" * 10
    for place in ({"to": secret}, {"to": [{"password": secret}]}, {"subject": [secret]}, {"data": secret}):
        assert "hunter2" not in str(refused(MAIL | place))


def test_a_million_wrong_values_are_one_line() -> None:
    data = BY_TYPE["import-user-data"]
    wrong = data | {"data": data["data"] | {"data": [7] * 1_000_000}}
    assert str(refused(wrong)) == "data.data.data.0: expected an object, found 7 (integer)"


def test_first_wrong_member_of_any_list_is_enough() -> None:
    named = set()
    for job in EXAMPLES:
        data = copy.deepcopy(job["data"])
        for place in [*places(data)]:
            holder = holder_of(data, place)
            if isinstance(kept := holder[place[-1]], list):
                holder[place[-1]] = [math.nan] * 3
                if "to" in place or place[-1] in ("data", "languages", "taskContexts", "tools", "availableTools"):
                    assert [each.path for each in refused(data).problems] == [".".join(["data", *place, "0"])]
                    named.add(place[-1])
                holder[place[-1]] = kept
    assert named == {"to", "data", "languages", "taskContexts", "tools", "availableTools"}

"""Results become JSON text whatever they are; success is never turned into failure by what it returned."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker import result
from workers.broker.result import clean, dump, message


def cycle() -> Any:
    loop: dict[str, Any] = {"a": [1]}
    loop["a"].append(loop)
    return loop


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@dataclass
class Thing:
    x: int = 1


class Broken(dict[str, Any]):
    """Its own items can't be listed."""

    def items(self) -> Any:
        raise KeyError("nothing here")


class Mute(Exception):
    """It can't be printed."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("é😀", '"é😀"'),
        ({"a": [1, 2.5, None]}, '{"a":[1,2.5,null]}'),
        ((1, 2), "[1,2]"),
        ({1: "a", None: "b"}, '{"1":"a","null":"b"}'),
        (2**200, str(2**200)),
        (math.nan, "null"),
        ([1, {"x": math.inf, "y": (-math.inf, "z")}], '[1,{"x":null,"y":[null,"z"]}]'),
        ("\ud800", '"\\ud800"'),
        ({"\ud800": "é"}, '{"\\ud800":"\\u00e9"}'),
        ([math.nan, "\udfff"], '[null,"\\udfff"]'),
    ],
)
def test_result_is_stored_as_node_would_store_it(value: Any, text: str) -> None:
    assert dump(value) == (text, None)


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ({1, 2}, "result of type set is not JSON: Object of type set is not JSON serializable"),
        (b"raw", "result of type bytes is not JSON: Object of type bytes is not JSON serializable"),
        ([Thing()], "result of type list is not JSON: Object of type Thing is not JSON serializable"),
        ({(1, 2): 3}, "result of type dict is not JSON: keys must be str, int, float, bool or None, not tuple"),
        (cycle(), "result of type dict is not JSON: Circular reference detected"),
        ([math.nan, cycle()], "result of type list is not JSON: Out of range float values are not JSON compliant"),
        (nested(100_000), "result of type list is not JSON: maximum recursion depth exceeded"),
        (10**5000, "result of type int is not JSON: Exceeds the limit (4300 digits)"),
        ({math.nan: 1}, "result of type dict is not JSON: Out of range float values are not JSON compliant"),
        ({"a": math.nan, "b": {1}}, "result of type dict is not JSON: Out of range float values"),
        (Broken(a=1), "result of type Broken is not JSON: 'nothing here'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_can_not_carry_is_replaced_by_words(value: Any, note: str) -> None:
    text, problem = dump(value)
    assert problem is not None and problem.startswith(note)
    assert json.loads(text) == {"unserialisable": problem}


def test_result_that_is_too_long_for_redis_is_replaced_by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "MAX_RESULT", 10)
    assert dump("x" * 8) == ('"xxxxxxxx"', None)
    text, problem = dump("x" * 9)
    assert problem == "result of 11 characters, more than the 10 that are stored"
    assert json.loads(text) == {"unserialisable": problem}


def test_longest_result_fits_a_redis_string() -> None:
    assert result.MAX_RESULT * 4 < 512 * 2**20


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.just(10**400)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.floats() | st.none(), inner, max_size=4)
        | st.sets(st.integers())
    ),
)


@given(anything)
def test_any_result_becomes_valid_json_text(value: Any) -> None:
    text, problem = dump(value)
    text.encode()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert problem is None or len(problem) <= 500


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_values_come_back_as_they_were(value: Any) -> None:
    text, problem = dump(value)
    assert json.loads(text) == value
    assert problem is None


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("a\ud800b", 9, "a?b"), ("é😀", 2, "é😀"), ("", 5, "")],
)
def test_text_is_cut_and_free_of_lone_surrogates(text: str, limit: int, kept: str) -> None:
    assert clean(text, limit) == kept


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no"), "no"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 99), "x" * 19 + "…"),
        (Mute(), "Mute (its message c…"),
        (OSError(2, "gone"), "[Errno 2] gone"),
    ],
)
def test_every_exception_has_words(error: BaseException, words: str) -> None:
    assert message(error, 20) == words

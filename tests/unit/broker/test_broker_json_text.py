"""JSON is read as Node reads it. What Node could not have written is refused by its path; no text of it is quoted."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.json_text import MAX_SOUGHT, MAX_TOKENS, UnreadableError, read

DEEP = "[" * 5000 + "]" * 5000
DIGITS = "expected an integer of at most 4,300 digits, found one of"
SOME_DIGITS = "an integer of at most 4,300 digits, found a longer one"


def refusal(text: str, *, max_depth: int | None = None) -> str:
    with pytest.raises(UnreadableError) as refused:
        read(text, "data", max_depth=max_depth)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "data: expected a finite number, found NaN"),
        ('{"a": Infinity}', "data.a: expected a finite number, found Infinity"),
        ('{"a": [1, {"b": -Infinity}]}', "data.a.1.b: expected a finite number, found -Infinity"),
        ('{"a": {"b": {}, "c": [[], [1.5, 1e400]]}}', "data.a.c.1.1: expected a finite number, found 1e400"),
        ('{"a": -1E+999}', "data.a: expected a finite number, found -1E+999"),
        ('{"a b\\n": NaN}', 'data."a b\\n": expected a finite number, found NaN'),
        ('{"a": ' + "9" * 400 + ".5}", "data.a: expected a finite number, found " + "9" * 39 + "…"),
        ('{"a": [0, ' + "9" * 4301 + "]}", f"data.a.1: {DIGITS} 4,301"),
        ('{"a": -' + "9" * 5000 + "}", f"data.a: {DIGITS} 5,000"),
        ('{"a": NaN, "b": 1e400, "c": ' + "9" * 5000 + "}", "data.a: expected a finite number, found NaN"),
        ('{"a": NaN, "a": 1}', "data: expected a finite number, found NaN"),
    ],
)
def test_number_that_json_lacks_is_refused_where_it_is(text: str, words: str) -> None:
    assert refusal(text) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [("NaN", "a finite number, found NaN"), ("1e400", "a finite number, found 1e400"), ("9" * 5000, SOME_DIGITS)],
)
def test_number_is_not_sought_in_a_long_text(number: str, words: str) -> None:
    text = '{"a": "' + "x" * MAX_SOUGHT + '", "b": ' + number + "}"
    assert refusal(text) == f"data: expected {words}"


@pytest.mark.parametrize(
    "text", ["", "{nope", "nan", "inf", "+1", "\ufeff{}", '"\n"', "[1,]", '{"a": NaN, ', '{"a": Infinity', "-NaN", "01"]
)
def test_what_is_no_json_is_called_so(text: str) -> None:
    assert refusal(text).startswith("data: not JSON (")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": "NaN Infinity 1e400 [[[[", "Infinity": []}', {"a": "NaN Infinity 1e400 [[[[", "Infinity": []}),
        (" [1e308, -1.7976931348623157e308, 1e-999, -0.0] ", [1e308, -1.7976931348623157e308, 0.0, -0.0]),
        ("9" * 4300, int("9" * 4300)),
        ('"\\ud800"', "\ud800"),
    ],
)
def test_all_else_is_read(text: str, value: Any) -> None:
    assert read(text, "data") == value


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    return all(map(finite, value)) if isinstance(value, list) else not isinstance(value, float) or math.isfinite(value)


@given(values)
def test_what_is_read_can_be_written_as_json_again(value: Any) -> None:
    text = json.dumps(value)
    if finite(value):
        assert json.dumps(read(text, "data"), allow_nan=False) == text
    else:
        assert "expected a finite number, found " in refusal(text)


# ------------------------------------------------------------------- too many levels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "data.0.0.0"),
        ('{"type": "x", "to": ["a", {"b,[": 1}], "extra": {"é": ' + DEEP + "}}", 'data.extra."\\u00e9".0'),
        ('{"a": {"deep": 1}, "b": [{}, [], {"k": "v,", "\\"x": ' + DEEP + "}]}", 'data.b.2."\\"x"'),
        ('{"a": NaN, "b": ' + DEEP + "}", "data.b.0.0"),
        ("[" + '{"a": ' * 3000 + "1" + "}" * 3000 + "]", "data.0.a.a"),
    ],
)
def test_too_many_levels_for_the_parser_are_refused_in_the_words_of_the_bound(text: str, words: str) -> None:
    assert refusal(text, max_depth=3) == f"{words}: expected at most 3 levels, found more"


def test_way_is_not_sought_through_all_of_a_long_text() -> None:
    text = "[" + "[]," * MAX_TOKENS + DEEP + "]"
    assert refusal(text, max_depth=100) == "data: expected at most 100 levels, found more"


def test_without_a_bound_it_is_said_alone() -> None:
    assert refusal(DEEP) == "data: nested too deeply"


# -------------------------------------------------------------------------- words


@pytest.mark.parametrize("bad", ["NaN", "1e400", "9" * 5000, DEEP, "nope"])
def test_nothing_of_what_is_confidential_is_quoted(bad: str) -> None:
    assert "hunter2" not in refusal('{"password": "hunter2", "next": ' + bad + ', "last": "hunter2"}', max_depth=9)


@pytest.mark.parametrize("text", ['{"' + "k" * 10_000 + '": NaN}', '{"a": ' * 900 + "NaN" + "}" * 900])
def test_words_stay_short(text: str) -> None:
    assert len(refusal(text)) < 200
    assert refusal(text).endswith(": expected a finite number, found NaN")


def test_name_heads_the_path() -> None:
    for text, words in [("NaN", "opts: expected"), ('{"data": NaN}', "opts.data: expected"), (DEEP, "opts: nested")]:
        with pytest.raises(UnreadableError, match=f"^{words}"):
            read(text, "opts")

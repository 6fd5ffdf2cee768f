"""Wording of values and places: bounded, one line, safe to store."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, field_validator

from tasks.problem import found, path, problem


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true (boolean)"),
        (7, "7 (integer)"),
        (-(10**30), "a huge integer"),
        pytest.param(10**5000, "a huge integer", id="beyond str()"),
        (1.5, "1.5 (number)"),
        (float("nan"), "nan (number)"),
        ("", '"" (string)'),
        ('a"\n\x00', '"a\\"\\n\\u0000" (string)'),
        ("x" * 41, "a string of 41 characters"),
        ([], "an empty list"),
        ([1, 2], "a list of 2"),
        ({"password": "hunter2"}, "an object"),
        (object(), "a Python object"),
    ],
)
def test_values_are_named_by_content_and_kind(value: object, words: str) -> None:
    assert found(value) == words


@settings(deadline=None)
@given(st.text(st.characters()) | st.integers() | st.floats())
def test_values_stay_short_and_on_one_line(value: object) -> None:
    assert len(found(value)) <= 80
    assert found(value).isprintable()


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ((), "data"),
        (("to", 0), "data.to.0"),
        (("userData", "a b"), 'data.userData."a b"'),
        (("x" * 500,), 'data."' + "x" * 39 + '\\u2026"'),
        (tuple("abcdefghijklmnop"), "data.a.b.c.d.e.f.g.h.i.j.k.l.…"),
    ],
)
def test_places_are_named_as_on_the_wire(location: tuple[int | str, ...], words: str) -> None:
    assert path(location) == words


class Options(BaseModel):
    share: float = Field(le=1)
    name: str

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        raise ValueError(f"a name\nwithout {value}")


class Holder(BaseModel):
    options: Options | None = None
    limits: dict[str, int] = {}
    pairs: list[Options] = []


def words(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as error:
        Holder.model_validate(data)
    return [str(problem(each, Holder)) for each in error.value.errors()]


def test_other_rules_are_put_in_pydantics_words_on_one_bounded_line() -> None:
    (first, second) = words({"options": {"share": 3.0, "name": "x" * 300}})
    assert first == "data.options.share: expected less than or equal to 1, found 3.0 (number)"
    assert second.startswith("data.options.name: expected a name without xxx")
    assert second.endswith("…, found a string of 300 characters")


def test_missing_field_behind_optional_and_list_knows_its_kind() -> None:
    assert words({"options": {"name": 5}, "pairs": [{}]}) == [
        "data.options.share: expected a number, found nothing",
        "data.options.name: expected a string, found 5 (integer)",
        "data.pairs.0.share: expected a number, found nothing",
        "data.pairs.0.name: expected a string, found nothing",
    ]

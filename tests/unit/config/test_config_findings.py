from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from config.document import parse_document
from config.findings import findings
from config.shape import Shape
from config.tree import plain


def messages(text: str, model: type[BaseModel]) -> list[str]:
    tree, issues = parse_document(text, "f.yaml")
    assert tree is not None
    assert issues == []
    with pytest.raises(ValidationError) as caught:
        model.model_validate(plain(tree))
    return [str(issue) for issue in findings(caught.value, tree, Shape.of(model))]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = Field(min_length=1, pattern="^[A-Z]")


class Zoo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    port: int = Field(alias="portNumber")
    ratio: float = Field(gt=0, default=1)
    tags: set[str] = set()
    by_name: dict[str, int] = {}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "{pet: {kind: cat, lives: 10}, portNumber: x}",
            [
                "f.yaml:1:19: pet.lives: expected an integer from 1 to 9, found 10",
                "f.yaml:1:31: portNumber: expected an integer, found 'x'",
            ],
        ),
        ("{pet: {kind: cat}, portNumber: 1}", ["f.yaml:1:2: pet.lives: this key is required: an integer from 1 to 9"]),
        ("{pet: {kind: cow}, portNumber: 1}", ["f.yaml:1:8: pet.kind: expected cat or dog, found 'cow'"]),
        ("{pet: {}, portNumber: 1}", ["f.yaml:1:2: pet.kind: this key is required: cat or dog"]),
        (
            "{pet: {kind: dog, name: rex}, portNumber: 1}",
            ["f.yaml:1:19: pet.name: string should match pattern '^[A-Z]'; found 'rex'"],
        ),
        (
            "{pet: {kind: dog, name: Rex}, portnumber: 1}",
            [
                "f.yaml:1:1: portNumber: this key is required: an integer",
                "f.yaml:1:31: portnumber: unknown key; did you mean 'portNumber'?",
            ],
        ),
        (
            "{pet: {kind: dog, name: Rex}, portNumber: 1, ratio: 0, by_name: {a: b}, tags: {x: 1}}",
            [
                "f.yaml:1:46: ratio: expected a number above 0, found 0",
                "f.yaml:1:73: tags: expected a list, found a mapping",
                "f.yaml:1:66: by_name.a: expected an integer, found 'b'",
            ],
        ),
        ("5", ["f.yaml:1:1: expected a mapping, found 5"]),
    ],
)
def test_errors_are_placed_and_say_what_was_expected(text: str, lines: list[str]) -> None:
    assert messages(text, Zoo) == lines


def test_number_without_bounds_in_its_schema_keeps_pydantics_words() -> None:
    class Even(BaseModel):
        n: int = Field(multiple_of=2)

    assert messages("n: 3", Even) == ["f.yaml:1:1: n: expected a multiple of 2, found 3"]


def test_alternative_aliases_are_named_by_the_first() -> None:
    class Aliased(BaseModel):
        n: int = Field(validation_alias=AliasChoices("one", "two"))

    (line,) = messages("two: x", Aliased)
    assert line.startswith("f.yaml:1:1: two: expected a valid integer")
    assert line.endswith("found 'x'")
    (line,) = messages("{}", Aliased)
    assert line.startswith("f.yaml:1:1: one: this key is required")


def test_huge_or_unprintable_values_stay_on_one_short_line() -> None:
    class Number(BaseModel):
        n: int

    value: Any = "x\\n\\e[31m" * 50
    (line,) = messages(f'n: "{value}"', Number)
    assert len(line) < 200
    assert line.isprintable()

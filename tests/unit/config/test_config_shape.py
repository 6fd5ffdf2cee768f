from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from config.schema import FleetConfig
from config.shape import Shape
from config.tree import KeyPath

FLEET = Shape.of(FleetConfig)
QUEUE = ("queues", "any")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("http", "port"), "an integer from 0 to 65535"),
        (("tracing", "enabled"), "true or false"),
        (("redis", "prefix"), "text"),
        (("log", "level"), "debug, info, warning or error"),
        (("queues",), "a mapping"),
        ((*QUEUE, "slo", "backlog"), "an integer of at least 0"),
        ((*QUEUE, "rate"), "a rate like 500/1m"),
        ((*QUEUE, "scale", "policy"), "fixed, queue-depth or work-seconds"),
        ((*QUEUE, "task", "retry"), "a mapping or never"),
        ((*QUEUE, "task", "retry", "over_job"), "a list"),
        ((*QUEUE, "task", "retry", "over_job", 0), "attempts or backoff"),
        ((*QUEUE, "task", "options", "x", "y"), ""),
    ],
)
def test_what_belongs_at_a_place_is_said_in_words(path: KeyPath, expected: str) -> None:
    assert FLEET.at(path).expected == expected


def test_names_are_those_of_all_alternatives_or_of_the_tagged_one() -> None:
    scale = FLEET.at((*QUEUE, "scale"))
    assert set(scale.names) == {"policy", "limited_by", "min", "max", "up", "down", "cooldown", "drain_in"}
    assert set(scale.tagged("policy", "work-seconds").names) == {"policy", "min", "max", "drain_in", "cooldown"}
    assert scale.tagged("policy", "other") == scale


def test_only_options_are_open() -> None:
    assert FLEET.at((*QUEUE, "task", "options")).open
    assert FLEET.at((*QUEUE, "task", "options", "deep", "down")).open
    assert not FLEET.at(QUEUE).open
    assert not FLEET.at(("http", "port")).open


def test_kinds_are_told_apart() -> None:
    assert FLEET.at((*QUEUE, "rate")).nullable
    assert not FLEET.at((*QUEUE, "lock")).nullable
    assert FLEET.at((*QUEUE, "task", "retry")).container
    assert not FLEET.at(("redis", "url")).container


def test_model_says_itself_what_is_secret_and_formats_are_left_to_it() -> None:
    class Options(BaseModel):
        auth: SecretStr
        size: int = Field(gt=1, le=5)
        either: Literal["a"] | int

    shape = Shape.of(Options)
    assert shape.below("auth").secret
    assert not shape.below("size").secret
    assert shape.below("auth").expected == "text"
    assert shape.below("either").expected == "a or an integer"


def test_nothing_is_claimed_of_a_model_without_json_schema() -> None:
    class Foreign:
        pass

    class Options(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        thing: Foreign

    shape: Any = Shape.of(Options)
    assert shape.open
    assert shape.below("thing").expected == ""

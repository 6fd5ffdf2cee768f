"""`task.retry`: what may be written, what it means, and how its caps are explained."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.json_schema import fleet_schema
from config.task_section import CapsConfig, RetryConfig, TaskConfig


def retry(value: Any) -> RetryConfig:
    return TaskConfig.model_validate({"timeout": "1s", "retry": value}).retry


def test_caps_default_to_none_for_attempts_and_a_year_for_waits() -> None:
    assert retry({}).caps == CapsConfig(attempts=None, wait=365 * 86_400)


def test_caps_are_read_in_human_form() -> None:
    caps = retry({"attempts": 3, "caps": {"attempts": 10, "wait": "1h"}}).caps
    assert (caps.attempts, caps.wait) == (10, 3600)


@pytest.mark.parametrize(
    ("caps", "field"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": "many"}, "attempts"),
        ({"wait": "soon"}, "wait"),
        ({"wait": 0}, "wait"),
        ({"waits": "1h"}, "waits"),
        (10, "caps"),
    ],
)
def test_caps_that_make_no_sense_are_refused_by_their_field(caps: Any, field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        retry({"caps": caps})
    (error,) = refused.value.errors()
    assert error["loc"][-1] == field


def test_never_is_one_attempt_whatever_the_job_says() -> None:
    assert (retry("never").attempts, retry("never").over_job) == (1, ("attempts",))


def test_every_key_is_explained_in_the_schema() -> None:
    caps = fleet_schema()["$defs"]["CapsConfig"]["properties"]
    assert set(caps) == {"attempts", "wait"}
    assert all("Defaults to" in each["description"] for each in caps.values())

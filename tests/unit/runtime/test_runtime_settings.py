"""How often a queue's stalled jobs are looked for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config.schema import FleetConfig
from workers.runtime import settings


def _config(**queue: str) -> FleetConfig:
    entry = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}, **queue}
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": {"q": entry}})


@pytest.mark.parametrize(
    ("queue", "every_ms"),
    [
        ({}, 30_000),
        ({"lock": "10m"}, 30_000),
        ({"lock": "3s"}, 1_500),
        ({"stall_check": "5s"}, 5_000),
        ({"lock": "3s", "stall_check": "1m"}, 60_000),
        ({"stall_check": "100ms"}, 100),
    ],
)
def test_stalled_jobs_are_looked_for_as_often_as_said_or_as_the_lock_asks_for(
    queue: dict[str, str], every_ms: int
) -> None:
    config = _config(**queue)
    assert settings.worker(config, config.queues["q"], "w").stalled_interval_ms == every_ms


def test_looking_all_the_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 100ms"):
        _config(stall_check="99ms")

"""From the configuration to the parts: how often stalled jobs are looked for, and the ladder of a task."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from config.rung_times import WAIT_S
from config.schema import FleetConfig
from config.task_section import TaskConfig
from config.tier_section import TiersConfig
from tasks.limits import Limits
from tasks.tier import TIERS, EnterpriseRule
from workers.broker.activation import Bounds
from workers.queue_service.routes import data_limits, enterprise_rule
from workers.runtime import settings
from workers.runtime.isolation.brief import brief_of
from workers.runtime.isolation.choice import brief
from workers.runtime.ladder import Ladder, Rung


def _config(**queue: Any) -> FleetConfig:
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


# ------------------------------------------------------------------------- tasks


def test_largest_data_are_bounded_where_they_are_parsed_and_where_they_are_read() -> None:
    config = _config(max_data="1KB")
    entry = config.queues["q"]
    assert settings.worker(config, entry, "w").bounds == Bounds(data_bytes=1024, depth=100)
    assert settings.limits(entry).max_data_bytes == 1024


def test_configuration_that_says_nothing_reads_tasks_as_their_models_do() -> None:
    config = _config()
    assert settings.limits(config.queues["q"]).data == Limits()
    assert enterprise_rule(config.tiers) == EnterpriseRule()


def test_bounds_of_a_queue_and_the_rule_for_enterprise_reach_those_who_read_its_jobs() -> None:
    config = _config(max_depth=250, max_chars=7)
    assert settings.limits(config.queues["q"]).data == data_limits(config.queues["q"]) == Limits(250, 7)
    assert settings.worker(config, config.queues["q"], "w").bounds == Bounds(data_bytes=4 * 2**20, depth=250)
    told = brief("q", config.queues["q"], config.log)
    assert brief_of(json.loads(json.dumps(told.fields()))).limits == Limits(250, 7)
    tiers = TiersConfig.model_validate({"enterprise": {"field": "plan.name", "values": ["gold", 7, False]}})
    assert enterprise_rule(tiers) == EnterpriseRule("plan.name", ("gold", 7, False))


@pytest.mark.parametrize("queue", [{"max_depth": 0}, {"max_depth": 251}, {"max_depth": 9.5}, {"max_chars": 0}])
def test_bounds_that_can_not_be_held_are_refused(queue: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _config(**queue)


# ------------------------------------------------------------------------ ladder

EVERYONE = frozenset(TIERS)


def ladder(**task: Any) -> Ladder:
    return settings.ladder(TypeAdapter(TaskConfig).validate_python(task))


@pytest.mark.parametrize(
    ("task", "made"),
    [
        ({"timeout": "30s"}, Ladder.timeout(30)),
        (
            {"timeout": {"stop": "1h", "kill": "61m", "job_may_set": "2h"}},
            Ladder(
                (
                    Rung(do="stop", at_s=3600, tiers=EVERYONE, wait_s=WAIT_S),
                    Rung(do="kill", at_s=3660, tiers=EVERYONE),
                ),
                7200,
            ),
        ),
        (
            {
                "ladder": [
                    {"at": "1m", "for": "free", "do": "pause", "tries": 2},
                    {"at": "10m", "do": "stop", "wait": "20s"},
                    {"do": "cancel", "wait": "30s"},
                    {"do": "kill"},
                ],
                "job_may_set": "20m",
            },
            Ladder(
                (
                    Rung(do="pause", at_s=60, tiers=frozenset(["free"]), tries=2, wait_s=WAIT_S),
                    Rung(do="stop", at_s=600, tiers=EVERYONE, wait_s=20),
                    Rung(do="cancel", tiers=EVERYONE, wait_s=30),
                    Rung(do="kill", tiers=EVERYONE),
                ),
                1200,
            ),
        ),
    ],
)
def test_each_form_becomes_its_ladder(task: dict[str, Any], made: Ladder) -> None:
    assert ladder(**task) == made


rungs = st.fixed_dictionaries(
    {"do": st.sampled_from(["warn", "checkpoint", "pause", "stop", "cancel", "kill"])},
    optional={
        "at": st.integers(1, 99),
        "for": st.lists(st.sampled_from(TIERS), min_size=1),
        "tries": st.integers(1, 3),
        "wait": st.integers(1, 20),
    },
)
names = st.sampled_from(["warn", "checkpoint", "pause", "stop", "cancel", "kill", "job_may_set"])


@given(
    st.fixed_dictionaries({"timeout": st.integers(1, 99) | st.dictionaries(names, st.integers(1, 99))})
    | st.fixed_dictionaries({"ladder": st.lists(rungs, max_size=4)}, optional={"job_may_set": st.integers(1, 99)})
)
def test_configuration_that_is_taken_gives_every_tier_a_ladder_without_rungs_that_are_passed_over(
    task: dict[str, Any],
) -> None:
    try:
        made = ladder(**task)
    except ValidationError:
        return
    for tier in TIERS:
        climb = made.for_run(tier)
        times = [(rung.at_s, start) for rung, start in zip(climb.rungs, climb.starts_s, strict=True)]
        assert all(before[1] < at_s for before, (at_s, _) in pairwise(times) if at_s is not None)

"""What the processes of a pool are told: all that they read, and nothing of what is not theirs."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from config.schema import FleetConfig
from workers.broker.deaths import Bounds
from workers.queue_service.routes import Routes
from workers.runtime.selection import Selection, select
from workers.runtime.settings import longest_s
from workers.runtime.supervision.brief import SILENCE_S, PoolBrief, bounds, queues_by_pool, specs, told
from workers.runtime.supervision.recycle import Limits
from workers.runtime.supervision.roll import plan
from workers.runtime.supervision.spec import ChildSpec

TREE: dict[str, Any] = {
    "tiers": {"enterprise": {"field": "plan", "values": ["gold", 1, True]}},
    "redis": {"url": "redis://host/0"},
    "pools": {
        "mail": {"processes": 2, "memory": "200MB", "max_jobs": 1000, "grace": "7s"},
        "ai": {"loop": "uvloop"},
    },
    "queues": {
        "email-send": {
            "pool": "mail",
            "concurrency": 5,
            "task": {"timeout": "30s", "options": {"password": "hunter2"}},
        },
        "sms-message": {
            "pool": "mail",
            "concurrency": 3,
            "task": {"timeout": "45s", "retry": {"attempts": 4, "backoff": "2s x2"}},
        },
        "llm-completion": {
            "pool": "ai",
            "concurrency": 10,
            "max_data": "1MB",
            "max_depth": 200,
            "max_chars": 100_000,
            "keep": {"completed": "1h/10"},
            "task": {
                "timeout": "5m",
                "priority": "generic",
                "retry": {"attempts": 3},
                "options": {"api_key": "sesame"},
            },
        },
    },
}
ALL = ("email-send", "sms-message", "llm-completion")


def config(changes: Mapping[str, Any] | None = None) -> FleetConfig:
    """TREE with the values at some paths replaced."""
    tree = deepcopy(TREE)
    for path, value in (changes or {}).items():
        *keys, last = path.split(".")
        node = tree
        for key in keys:
            node = node.setdefault(key, {})
        node[last] = value
    return FleetConfig.model_validate(tree)


def chosen(of: FleetConfig) -> Selection:
    return select(of, ALL)


def made(of: FleetConfig) -> dict[str, ChildSpec]:
    found = specs(
        of,
        chosen(of),
        command=("python", "-m", "x"),
        shared=Path("/shared"),
        longest_s=longest_s,
    )
    return {spec.name: spec for spec in found}


def brief_of(spec: ChildSpec) -> PoolBrief:
    return PoolBrief.model_validate_json(spec.stdin)


def test_each_pool_has_its_processes_with_what_they_are_held_to() -> None:
    found = made(config())
    assert list(found) == ["ai-0", "mail-0", "mail-1"]
    mail, ai = found["mail-1"], found["ai-0"]
    assert mail.argv == ("python", "-m", "x", "{beat_fd}")
    assert (mail.pool, mail.grace_s, mail.silence_s) == ("mail", 7.0, SILENCE_S + 51)
    assert mail.limits == Limits(memory=200 * 1024**2, max_jobs=1000)
    assert (ai.limits, ai.grace_s, ai.silence_s) == (Limits(), 30.0, SILENCE_S + 306)
    assert mail.env == {"PROMETHEUS_MULTIPROC_DIR": "/shared"}


def test_brief_survives_its_way_and_names_the_process() -> None:
    brief = brief_of(made(config())["mail-1"])
    assert (brief.name, brief.queues, brief.shared) == ("mail-1", ("email-send", "sms-message"), Path("/shared"))
    assert brief.pool.grace == 7.0
    assert brief.config.tiers.enterprise.values == ("gold", 1, True)
    assert [type(each) for each in brief.config.tiers.enterprise.values] == [str, int, bool]
    assert brief.config.redis.url == "redis://host/0"
    assert brief.config.queues["email-send"].task.options == {"password": "hunter2"}
    assert brief_of(made(config())["ai-0"]).pool.loop == "uvloop"


def test_process_holds_no_secret_of_another_pool() -> None:
    found = made(config())
    assert b"sesame" not in found["mail-0"].stdin
    assert b"hunter2" not in found["ai-0"].stdin


def test_jobs_for_queues_of_other_pools_are_added_as_ever() -> None:
    whole = config()
    for pool, queues in queues_by_pool(chosen(whole)).items():
        assert Routes.of(told(whole, pool, queues)) == Routes.of(whole)


#: A change, and the processes that must be replaced for it; None: the change concerns their supervisor alone.
CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"queues.email-send.concurrency": 6}, {"mail-0", "mail-1"}),
    ({"queues.email-send.task": {"timeout": "31s"}}, {"mail-0", "mail-1"}),
    ({"queues.llm-completion.concurrency": 11}, {"ai-0"}),
    ({"queues.llm-completion.lock": "30s"}, {"ai-0"}),
    ({"queues.llm-completion.max_data": "2MB"}, {"ai-0", "mail-0", "mail-1"}),
    ({"queues.llm-completion.max_depth": 201}, {"ai-0", "mail-0", "mail-1"}),
    ({"queues.llm-completion.max_chars": 9}, {"ai-0", "mail-0", "mail-1"}),
    ({"queues.llm-completion.task.priority": "none"}, {"ai-0", "mail-0", "mail-1"}),
    ({"tiers": {"enterprise": {"values": ["silver"]}}}, {"ai-0", "mail-0", "mail-1"}),
    ({"pools.ai.loop": "asyncio"}, {"ai-0"}),
    ({"pools.mail.grace": "8s"}, {"mail-0", "mail-1"}),
    ({"log": {"level": "debug"}}, {"ai-0", "mail-0", "mail-1"}),
    ({"pools.mail.memory": "300MB"}, set()),
    ({"pools.mail.max_jobs": 5}, set()),
    ({"http": {"port": 1}}, set()),
    ({"queues.email-send.deaths": 9}, set()),
    ({"queues.email-send.slo": {"p50": "1s"}}, set()),
    ({"queues.email-send.limits": {"depth": 9}}, {"ai-0", "mail-0", "mail-1"}),
]


@pytest.mark.parametrize(("changes", "replaced"), CHANGES)
def test_change_replaces_those_processes_alone_that_would_work_differently(
    changes: dict[str, Any], replaced: set[str]
) -> None:
    assert set(plan(made(config()), made(config(changes))).replaced) == replaced


def test_number_of_processes_replaces_none() -> None:
    more = plan(made(config()), made(config({"pools.mail.processes": 3})))
    assert (more.added, more.removed, more.replaced) == (("mail-2",), (), ())
    fewer = plan(made(config()), made(config({"pools.mail.processes": 1})))
    assert (fewer.added, fewer.removed, fewer.replaced) == ((), ("mail-1",), ())


def test_bounds_are_those_of_each_queue() -> None:
    found = bounds(config({"queues.email-send.deaths": 9, "queues.email-send.stalls": 4}).queues)
    assert found["email-send"] == Bounds(deaths=9, stalls=4)
    assert found["sms-message"] == Bounds(deaths=3, stalls=1)

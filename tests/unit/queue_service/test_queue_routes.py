"""Where jobs of a task type go, and what their queue writes into them."""

from __future__ import annotations

from typing import Any

import pytest

from config.schema import FleetConfig
from tasks.limits import Limits
from workers.queue_service.errors import InvalidRequestError, UnknownQueueError
from workers.queue_service.routes import QUOTED, Routes

DAY = {"age": 86_400, "count": 5000}


def config(routes: dict[str, str] | None = None, **queues: dict[str, Any]) -> FleetConfig:
    entries = {
        name.replace("_", "-"): {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}, **entry}
        for name, entry in queues.items()
    }
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": entries, "routes": routes or {}})


def task(**said: Any) -> dict[str, Any]:
    return {"timeout": "1s", **said}


@pytest.mark.parametrize(
    ("retry", "written"),
    [
        ({}, {"attempts": 1}),
        ("never", {"attempts": 1}),
        ({"attempts": 3, "backoff": "2s"}, {"attempts": 3, "backoff": {"type": "fixed", "delay": 2000}}),
        ({"backoff": "10s x2"}, {"attempts": 1, "backoff": {"type": "exponential", "delay": 10_000}}),
        (
            {"backoff": "1s x2", "jitter": "20%"},
            {"attempts": 1, "backoff": {"type": "exponential", "delay": 1000, "jitter": 0.2}},
        ),
        ({"attempts": 2, "backoff": "2s x3"}, {"attempts": 2}),
        ({"attempts": 2, "backoff": "2s x2 max 5m"}, {"attempts": 2}),
        ({"attempts": 2, "backoff": "none", "jitter": "20%"}, {"attempts": 2}),
    ],
)
def test_job_carries_what_its_queue_does_about_failures_where_bullmq_has_words(
    retry: Any, written: dict[str, Any]
) -> None:
    route = Routes.of(config(wave={"task": task(retry=retry)})).find("wave")
    assert route.options == {**written, "removeOnComplete": DAY, "removeOnFail": DAY}


@pytest.mark.parametrize(
    ("keep", "written"), [("none", True), ("forever", False), ("1h", {"age": 3600}), (7, {"count": 7})]
)
def test_job_carries_how_long_its_queue_keeps_it(keep: Any, written: Any) -> None:
    route = Routes.of(config(wave={"keep": {"completed": keep, "failed": keep}})).find("wave")
    assert (route.options["removeOnComplete"], route.options["removeOnFail"]) == (written, written)


def test_bounds_are_those_of_the_queue() -> None:
    route = Routes.of(config(wave={"max_data": "1KB", "max_depth": 7, "max_chars": 9})).find("wave")
    assert (route.max_data_bytes, route.limits) == (1024, Limits(max_depth=7, max_chars=9))


# --------------------------------------------------------------- types that share a queue

BOTH = {"accepts": {"llm": {}, "swarm": {}}}


@pytest.mark.parametrize(
    ("queues", "routes", "queue"),
    [
        ({"swarm": {}}, {}, "swarm"),
        ({"llm": BOTH}, {}, "llm"),
        ({"llm": BOTH, "swarm": {}}, {}, "swarm"),
        ({"llm": BOTH, "swarm": {}}, {"swarm": "llm"}, "llm"),
        ({"one": BOTH, "two": BOTH}, {}, "one"),
        ({"one": BOTH, "two": BOTH}, {"swarm": "two"}, "two"),
        ({"llm": BOTH, "swarm": {"accepts": {"other": {}}}}, {}, "llm"),
    ],
)
def test_task_goes_where_its_route_says_else_to_the_queue_of_its_name_else_to_the_first(
    queues: dict[str, Any], routes: dict[str, str], queue: str
) -> None:
    assert Routes.of(config(routes, **queues)).find("swarm").queue == queue


def test_caller_may_name_any_queue_that_carries_the_type() -> None:
    found = Routes.of(config({"swarm": "llm"}, llm=BOTH, swarm={}))
    assert [found.find("swarm", name).queue for name in (None, "llm", "swarm")] == ["llm", "llm", "swarm"]


@pytest.mark.parametrize(
    ("accept", "swarm", "attempts", "rule"),
    [
        ({}, None, 7, "node"),
        ({}, {"retry": {"attempts": 3}, "priority": "generic"}, 3, "generic"),
        ({"task": task(retry={"attempts": 4}, priority="none")}, {"retry": {"attempts": 3}}, 4, None),
    ],
    ids=["of the queue", "of the queue of its name", "of its own"],
)
def test_task_type_in_anothers_queue_keeps_its_own_settings(
    accept: Any, swarm: Any, attempts: int, rule: str | None
) -> None:
    queues: dict[str, Any] = {"llm": {"accepts": {"swarm": accept}, "task": task(retry={"attempts": 7})}}
    queues |= {} if swarm is None else {"swarm": {"task": task(**swarm)}}
    route = Routes.of(config({"swarm": "llm"}, **queues)).find("swarm")
    assert (route.queue, route.options["attempts"], route.priority) == ("llm", attempts, rule)


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("teleport", "type: no queue carries task type 'teleport': set queues.teleport"),
        ("x" * 1000, f"type: no queue carries task type '{'x' * QUOTED}': set queues.{'x' * QUOTED}"),
        ("a\x1b[31m\n", "type: no queue carries task type 'a�[31m�': set queues.a�[31m�"),
        ("swarm", "type: no queue carries task type 'swarm': set queues.swarm"),
    ],
)
def test_type_that_no_queue_carries_is_named_with_the_fix(kind: str, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Routes.of(config(swarm={"accepts": {"other": {}}})).find(kind)
    assert (str(refused.value), refused.value.field) == (said, "type")


def test_queue_that_does_not_carry_the_type_is_named_with_the_fix() -> None:
    with pytest.raises(
        InvalidRequestError, match=r"queue: llm carries no tasks of type 'mail': set queues.llm.accepts"
    ):
        Routes.of(config(llm=BOTH, mail={})).find("mail", "llm")


@pytest.mark.parametrize("queue", ["nope", "", "a:b", "x" * 1000, "\x1b[2J", 7, ["llm"]])
def test_queue_that_is_not_configured_is_named_in_a_safe_length(queue: Any) -> None:
    with pytest.raises(UnknownQueueError, match="is not configured") as refused:
        Routes.of(config(llm=BOTH)).find("swarm", queue)
    assert len(str(refused.value)) < 300 and str(refused.value).isprintable()

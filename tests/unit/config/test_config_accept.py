"""`accepts` and `routes`: several task types in one queue, and where they are added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.accept_section import module_of, queue_of, task_of, task_place, types_of
from config.errors import ConfigError
from config.loader import DEFAULT_FILE, load
from config.schema import FleetConfig

QUEUE = {"pool": "p", "concurrency": 1, "task": {"timeout": "1s"}}


def config(**queues: dict[str, Any]) -> FleetConfig:
    entries = {name: {**QUEUE, **entry} for name, entry in queues.items()}
    return FleetConfig.model_validate({"pools": {"p": {}}, "queues": entries})


def test_queue_carries_the_type_of_its_name_unless_it_says_otherwise() -> None:
    found = config(a={}, b={"accepts": {"a": {}, "c": {}}})
    assert [list(types_of(name, entry)) for name, entry in found.queues.items()] == [["a"], ["a", "c"]]
    assert [queue_of(found, kind) for kind in ("a", "b", "c", "d")] == ["a", None, "b", None]


def test_module_of_the_queue_is_that_of_the_type_of_its_name() -> None:
    entry = config(a={"module": "x.y", "accepts": {"a": {}, "b": {}, "c": {"module": "x.z"}}}).queues["a"]
    assert [module_of("a", entry, kind) for kind in ("a", "b", "c")] == ["x.y", None, "x.z"]


def test_settings_of_a_type_and_where_they_are_written() -> None:
    own = {"timeout": "9s"}
    found = config(a={"accepts": {"b": {}, "c": {"task": own}, "d": {}}}, b={"task": {"timeout": "2s"}}, c={})
    assert [task_of(found, "a", kind).timeout for kind in "bcd"] == [2.0, 9.0, 1.0]
    assert [".".join(task_place(found, "a", kind)) for kind in "bcd"] == [
        "queues.b.task",
        "queues.a.accepts.c.task",
        "queues.a.task",
    ]


def test_shipped_fleet_adds_swarms_where_nodes_workers_look_for_them() -> None:
    shipped = load(DEFAULT_FILE, env={}).config
    assert queue_of(shipped, "swarm-execution") == "llm-completion"
    assert list(types_of("llm-completion", shipped.queues["llm-completion"])) == ["llm-completion", "swarm-execution"]
    assert task_of(shipped, "llm-completion", "swarm-execution") == shipped.queues["swarm-execution"].task
    kinds = {kind for queue, entry in shipped.queues.items() for kind in types_of(queue, entry)}
    assert {kind: queue_of(shipped, kind) for kind in kinds} == {kind: kind for kind in kinds} | {
        "swarm-execution": "llm-completion"
    }


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ("queues: {sms-message: {accepts: {}}}", "queues.sms-message.accepts: expected one or more task types"),
        ("queues: {sms-message: {accepts: 5}}", "queues.sms-message.accepts: expected a mapping, found 5"),
        ("queues: {sms-message: {accepts: {a: {taks: {}}}}}", "accepts.a.taks: unknown key; did you mean 'task'?"),
        (
            "queues: {sms-message: {accepts: {a: {module: 1x}}}}",
            "queues.sms-message.accepts.a.module: string should match",
        ),
        (
            "queues: {sms-message: {accepts: {a: {}}, module: x.y}}",
            "queues.sms-message.module: expected it where its type is: queues.sms-message.accepts does not name sms",
        ),
        ("routes: {email-send: nope}", "routes.email-send: expected the name of a queue, found 'nope'"),
        ("routes: {email-send: email-sent}", "did you mean 'email-send'?"),
        ("routes: {a: sms-message}", "routes.a: expected a queue that carries a: set queues.sms-message.accepts.a"),
        ("routes: {email-send: 5}", "routes.email-send: expected text, found 5"),
        ("routes: 7", "routes: expected a mapping, found 7"),
    ],
)
def test_what_can_not_be_is_told_at_its_place(tmp_path: Path, overlay: str, said: str) -> None:
    file = tmp_path / "over.yaml"
    file.write_text(overlay)
    with pytest.raises(ConfigError) as refused:
        load(DEFAULT_FILE, overlays=[file], env={})
    assert said in str(refused.value)
    assert "over.yaml:1:" in str(refused.value)

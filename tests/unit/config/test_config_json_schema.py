from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config.document import read_document
from config.json_schema import SCHEMA_FILE, fleet_schema, fleet_schema_text
from config.loader import DEFAULT_FILE
from config.tree import plain


def validator() -> Draft202012Validator:
    return Draft202012Validator(fleet_schema())


def raw() -> Any:
    tree, issues = read_document(DEFAULT_FILE, "fleet.yaml")
    assert tree is not None
    assert issues == []
    return plain(tree)


def refusals(tree: Any) -> list[str]:
    return sorted(str(error.json_path) for error in validator().iter_errors(tree))


def test_committed_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == fleet_schema_text()


def test_schema_is_one() -> None:
    validator().check_schema(fleet_schema())


def test_shipped_file_names_the_schema_and_keeps_to_it() -> None:
    first = DEFAULT_FILE.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./schema.json"
    assert refusals(raw()) == []


@pytest.mark.parametrize(
    ("path", "value", "refused"),
    [
        (("queues", "email-send", "concurency"), 5, "$.queues['email-send']"),
        (("queues", "email-send", "concurrency"), "many", "$.queues['email-send'].concurrency"),
        (("queues", "email-send", "concurrency"), 0, "$.queues['email-send'].concurrency"),
        (("queues", "email-send", "task", "timeout"), "5 parsecs", "$.queues['email-send'].task.timeout"),
        (("queues", "email-send", "task", "retry"), "nevr", "$.queues['email-send'].task.retry"),
        (("queues", "email-send", "rate"), "5", "$.queues['email-send'].rate"),
        (("queues", "email-send", "keep"), {"completed": "24h/"}, "$.queues['email-send'].keep.completed"),
        (("queues", "email-send", "scale"), {"min": 1}, "$.queues['email-send'].scale"),
        (("log", "level"), "loud", "$.log.level"),
        (("redis", "url"), "http://x", "$.redis.url"),
        (("redis", "url"), "unix+cluster:///x", "$.redis.url"),
        (("redis", "max_connections"), 0, "$.redis.max_connections"),
        (("redis", "keepalive"), "soon", "$.redis.keepalive"),
        (("redis", "tls"), {"ca": "/ca.pem"}, "$.redis.tls"),
        (("redis", "tls"), {"verify": "maybe"}, "$.redis.tls.verify"),
        (("redis", "sentinel"), {"pass": "x"}, "$.redis.sentinel"),
        (("redis", "reconnect"), {"max": "3 parsecs"}, "$.redis.reconnect.max"),
        (("redis", "url"), "$${REDIS_URL}", "$.redis.url"),
        (("queues",), {}, "$.queues"),
        (("pools",), {"p": {"processes": True}}, "$.pools.p.processes"),
    ],
)
def test_typo_or_wrong_value_is_refused_at_its_place(path: tuple[str, ...], value: Any, refused: str) -> None:
    tree = raw()
    _set(tree, path, value)
    assert refusals(tree) == [refused]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("queues", "email-send", "concurrency"), "${N:-5}"),
        (("queues", "email-send", "rate"), "${RATE}"),
        (("queues", "email-send", "rate"), None),
        (("queues", "email-send", "slo", "p50"), "${P50}"),
        (("queues", "email-send", "task", "timeout"), 2.5),
        (("queues", "email-send", "task", "timeout"), "${N}s"),
        (("queues", "email-send", "task", "retry"), "never"),
        (("queues", "email-send", "task", "retry", "over_job"), ["${X}"]),
        (("queues", "email-send", "task", "options"), {"anything": [1, {"goes": None}]}),
        (("redis", "allow_eviction"), "${ALLOW:-false}"),
        (("redis", "url"), "unix:///run/redis.sock"),
        (("redis", "url"), "rediss+sentinel://:${PASSWORD}@a:26379,b/main/0"),
        (("redis", "url"), "redis+cluster://a:7000,b"),
        (("redis", "password"), "${REDIS_PASSWORD}"),
        (("redis", "tls"), {"ca_file": "${CA:-}", "verify": "${VERIFY:-true}"}),
        (("redis", "reconnect"), {"first": "${FIRST:-100ms}", "max": 3}),
        (("log", "level"), "${LEVEL:-info}"),
    ],
)
def test_environment_may_stand_for_any_single_value(path: tuple[str, ...], value: Any) -> None:
    tree = raw()
    _set(tree, path, value)
    assert refusals(tree) == []


def test_every_key_says_what_it_is() -> None:
    silent = [where for where, schema in _properties(fleet_schema(), "") if not schema.get("description")]
    assert silent == []


def test_schema_speaks_standard_words_only() -> None:
    assert not re.search(r'"(x-[a-z]+|discriminator)"', fleet_schema_text())


def _set(tree: Any, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = copy.deepcopy(value)


def _properties(schema: Any, where: str) -> Iterator[tuple[str, Any]]:
    for name, below in schema.get("properties", {}).items():
        yield f"{where}.{name}", below
    for name, below in schema.get("$defs", {}).items():
        yield from _properties(below, name)

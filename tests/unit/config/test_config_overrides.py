from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.document import parse_document
from config.errors import ConfigIssue
from config.overrides import apply_environment, apply_settings
from config.schema import FleetConfig
from config.shape import Shape
from config.tree import Node, find, plain

SHAPE = Shape.of(FleetConfig)
KNOWN = ", ".join(FleetConfig.model_fields)
TEXT = """
redis: {url: embedded}
pools: {communication: {}}
queues:
  email-send:
    concurrency: 5
    scale: {policy: queue-depth}
    task:
      retry: never
      options: {smtp_url: x, to: [a], nested: {deep: 1}}
  a.b: {concurrency: 1}
  two-words: {concurrency: 1}
  two_words: {concurrency: 2}
"""


def tree() -> Node:
    read, issues = parse_document(TEXT, "fleet.yaml")
    assert read is not None
    assert issues == []
    return read


def value(node: Node, *path: str | int) -> Any:
    found = find(node, path)
    return plain(found) if found is not None else "absent"


def from_env(**env: str) -> tuple[Node, list[str]]:
    issues: list[ConfigIssue] = []
    result = apply_environment(tree(), env, SHAPE, issues.append)
    return result, [str(issue) for issue in issues]


def from_settings(settings: Any) -> tuple[Node, list[str]]:
    issues: list[ConfigIssue] = []
    result = apply_settings(tree(), settings, SHAPE, issues.append)
    return result, [str(issue) for issue in issues]


@pytest.mark.parametrize(
    "name",
    [
        "FLEET__QUEUES__EMAIL_SEND__CONCURRENCY",
        "FLEET__queues__email_send__concurrency",
        "FLEET__Queues__Email-Send__Concurrency",
    ],
)
def test_variable_finds_its_key_whatever_its_letters(name: str) -> None:
    result, issues = from_env(**{name: "9"})
    assert issues == []
    assert value(result, "queues", "email-send", "concurrency") == "9"
    node = find(result, ("queues", "email-send", "concurrency"))
    assert node is not None
    assert str(node.origin) == f"env {name}"


def test_variable_may_set_a_key_that_no_file_has() -> None:
    result, issues = from_env(
        FLEET__LOG__LEVEL="debug",
        FLEET__QUEUES__EMAIL_SEND__SLO__P50="2s",
        FLEET__QUEUES__EMAIL_SEND__SCALE__DRAIN_IN="2m",
        FLEET__QUEUES__EMAIL_SEND__TASK__RETRY__ATTEMPTS="2",
    )
    assert issues == []
    assert value(result, "log", "level") == "debug"
    assert value(result, "queues", "email-send", "slo", "p50") == "2s"
    assert value(result, "queues", "email-send", "scale", "drain_in") == "2m"
    assert value(result, "queues", "email-send", "task", "retry") == {"attempts": "2"}


def test_new_option_of_a_module_is_taken_in_lower_case() -> None:
    result, issues = from_env(FLEET__QUEUES__EMAIL_SEND__TASK__OPTIONS__FROM_NAME="Us")
    assert issues == []
    assert value(result, "queues", "email-send", "task", "options", "from_name") == "Us"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FLEET__QUEUES__EMAIL_SNED__CONCURRENCY", "queues.email_sned: unknown key; did you mean 'email-send'?"),
        (
            "FLEET__QUEUES__EMAIL_SEND__CONCURENCY",
            "queues.email-send.concurency: unknown key; did you mean 'concurrency'?",
        ),
        ("FLEET__RED__URL", "red: unknown key; did you mean 'redis'?"),
        ("FLEET__XYZZY", f"xyzzy: unknown key; known here: {KNOWN}"),
        ("FLEET__", f"'': unknown key; known here: {KNOWN}"),
        ("FLEET__REDIS__URL__HOST", "redis.url: this is a single value; it has no keys"),
        ("FLEET__QUEUES__EMAIL__SEND__LOCK", "queues.email: unknown key; did you mean 'email-send'?"),
        ("FLEET__QUEUES__EMAIL_SEND__TASK__OPTIONS__TO__0", "queues.email-send.task.options.to: this is a list"),
        ("FLEET__QUEUES__EMAIL_SEND__TASK__OPTIONS__", "queues.email-send.task.options.'': unknown key"),
    ],
)
def test_variable_without_key_is_an_error_with_the_nearest(name: str, message: str) -> None:
    _, issues = from_env(**{name: "1"})
    assert len(issues) == 1
    assert issues[0].startswith(f"{name}: {message}")


def test_name_that_may_mean_two_keys_is_refused() -> None:
    _, issues = from_env(FLEET__QUEUES__Two_words__LOCK="5s")
    assert issues == ["FLEET__QUEUES__Two_words__LOCK: queues: 'Two_words' may be 'two-words' or 'two_words'"]
    result, issues = from_env(**{"FLEET__QUEUES__two-words__LOCK": "5s"})
    assert issues == []
    assert value(result, "queues", "two-words", "lock") == "5s"


def test_key_set_by_two_variables_is_an_error() -> None:
    _, issues = from_env(FLEET__LOG__LEVEL="info", FLEET__log__level="debug")
    assert issues == ["FLEET__log__level: log.level: is set by FLEET__LOG__LEVEL too; keep one"]


def test_other_variables_are_left_alone() -> None:
    result, issues = from_env(FLEET_CONFIG="x", FLEETING="y", PATH="z")
    assert issues == []
    assert plain(result) == plain(tree())


def test_lists_and_mappings_are_yaml_where_they_belong() -> None:
    result, issues = from_env(
        FLEET__QUEUES__EMAIL_SEND__SCALE="{policy: fixed}",
        FLEET__QUEUES__EMAIL_SEND__TASK__OPTIONS__TO="[b, 5]",
        FLEET__QUEUES__EMAIL_SEND__TASK__OPTIONS__PASSWORD="{not yaml",
    )
    assert issues == []
    assert value(result, "queues", "email-send", "scale") == {"policy": "fixed"}
    assert value(result, "queues", "email-send", "task", "options", "to") == ["b", 5]
    assert value(result, "queues", "email-send", "task", "options", "password") == "{not yaml"
    node = find(result, ("queues", "email-send", "scale", "policy"))
    assert node is not None
    assert str(node.origin) == "env FLEET__QUEUES__EMAIL_SEND__SCALE"


def test_policy_and_its_keys_may_all_come_from_variables() -> None:
    prefix = "FLEET__QUEUES__EMAIL_SEND__SCALE__"
    wanted = {"policy": "work-seconds", "min": "1", "max": "9", "drain_in": "2m"}
    result, issues = from_env(**{prefix + key.upper(): value for key, value in wanted.items()})
    assert issues == []
    assert value(result, "queues", "email-send", "scale") == wanted


def test_broken_yaml_in_a_variable_is_told_there() -> None:
    _, issues = from_env(FLEET__QUEUES__EMAIL_SEND__SCALE="{policy: [")
    assert len(issues) == 1
    assert issues[0].startswith("FLEET__QUEUES__EMAIL_SEND__SCALE: queues.email-send.scale: not YAML: ")


def test_null_unsets_only_where_null_is_allowed() -> None:
    result, issues = from_env(FLEET__QUEUES__EMAIL_SEND__RATE="null", FLEET__REDIS__URL="null")
    assert issues == []
    assert value(result, "queues", "email-send", "rate") is None
    assert value(result, "redis", "url") == "null"


def test_values_are_not_filled_and_must_be_utf_8() -> None:
    result, issues = from_env(FLEET__REDIS__URL="${X}", FLEET__REDIS__PREFIX="caf\udce9")
    assert value(result, "redis", "url") == "${X}"
    assert issues == ["FLEET__REDIS__PREFIX: redis.prefix: expected UTF-8 text"]


def test_settings_apply_in_their_order() -> None:
    result, issues = from_settings(
        ["queues.email-send.concurrency=7", "queues.email_send.concurrency=9", "log.level = x=y"]
    )
    assert issues == []
    assert value(result, "queues", "email-send", "concurrency") == "9"
    assert value(result, "log", "level") == " x=y"
    node = find(result, ("queues", "email-send", "concurrency"))
    assert node is not None
    assert str(node.origin) == "--set queues.email_send.concurrency"


def test_key_with_a_dot_is_found() -> None:
    result, issues = from_settings(["queues.a.b.concurrency=4"])
    assert issues == []
    assert value(result, "queues", "a.b", "concurrency") == "4"


def test_settings_from_code_keep_their_types() -> None:
    result, issues = from_settings(
        {"redis.data_dir": Path("/data"), "http.port": 0, "queues.email-send.scale": {"policy": "fixed"}}
    )
    assert issues == []
    assert value(result, "redis", "data_dir") == "/data"
    assert value(result, "http", "port") == 0
    assert value(result, "queues", "email-send", "scale") == {"policy": "fixed"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["log.level"], "--set: expected key=value, found 'log.level'"),
        (["=5"], "--set: expected key=value, found ''"),
        (["log.levle=x"], "--set: log.levle: unknown key; did you mean 'level'?"),
        (["log..level=x"], "--set: log.'': unknown key; known here: level, format"),
        ({"http.port": object()}, "--set: http.port: expected a text, number, list or mapping, found a object"),
    ],
)
def test_wrong_setting_is_one_issue(settings: Any, message: str) -> None:
    result, issues = from_settings(settings)
    assert issues == [message]
    assert plain(result) == plain(tree())


def test_key_below_a_null_section_is_made() -> None:
    read, _ = parse_document("log:\n", "fleet.yaml")
    assert read is not None
    issues: list[ConfigIssue] = []
    result = apply_environment(read, {"FLEET__LOG__LEVEL": "debug"}, SHAPE, issues.append)
    assert issues == []
    assert plain(result) == {"log": {"level": "debug"}}

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import ConfigError
from config.loader import LoadedConfig, load
from config.schema import FleetConfig

KNOWN = ", ".join(FleetConfig.model_fields)
BASE = """\
pools:
  communication: {processes: 1}
queues:
  email-send:
    pool: communication
    concurrency: 5
    scale: {policy: queue-depth, min: 1, max: 10, up: 5, down: 1}
    task:
      timeout: 30s
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "fleet.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, env: Mapping[str, str] | None = None, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, env=env or {}, **options)
    return str(caught.value).splitlines()


def test_each_source_wins_over_the_one_before(write: Any) -> None:
    path = write(BASE)
    overlay = write("queues: {email-send: {concurrency: 6, lock: 30s}}\n", "staging.yaml")
    last = write("queues: {email-send: {concurrency: 7}}\n", "last.yaml")
    variable = {"FLEET__QUEUES__EMAIL_SEND__CONCURRENCY": "8"}
    setting = ["queues.email-send.concurrency=9"]

    def concurrency(loaded: LoadedConfig) -> tuple[int, str]:
        where = ("queues", "email-send", "concurrency")
        return loaded.config.queues["email-send"].concurrency, loaded.origin(where)

    assert concurrency(load(path, env={})) == (5, "fleet.yaml:6:5")
    assert concurrency(load(path, overlays=[overlay], env={})) == (6, "staging.yaml:1:23")
    assert concurrency(load(path, overlays=[overlay, last], env={})) == (7, "last.yaml:1:23")
    loaded = load(path, overlays=[overlay, last], env=variable)
    assert concurrency(loaded) == (8, "env FLEET__QUEUES__EMAIL_SEND__CONCURRENCY")
    loaded = load(path, overlays=[overlay, last], env=variable, overrides=setting)
    assert concurrency(loaded) == (9, "--set queues.email-send.concurrency")
    assert loaded.config.queues["email-send"].lock == 30.0
    assert loaded.config.queues["email-send"].stalls == 1
    assert loaded.origin(("queues", "email-send", "stalls")) == "default"


def test_every_issue_is_told_at_once_in_the_order_of_the_files(write: Any) -> None:
    path = write(
        """\
redis: {url: "http://me:hunter2@x"}
log: {levle: debug}
pools: {communication: {processes: true}}
queues:
  email-send:
    pool: comunication
    concurrency: many
    concurrency: 6
    rate: 5
    scale: {policy: fixed, min: 1}
    task: {retry: nevr}
  sms-message:
    scale: {policy: quick}
    task: {timeout: "${UNSET}"}
    keep: {completed: 24h/}
    lock: 100ms
  "a:b": null
"""
    )
    overlay = write("queues: {sms-message: {stalls: -1}}\n", "over.yaml")
    assert refusal(
        path, {"FLEET__LOG__FORMAT": "xml", "FLEET__NOPE": "1"}, overlays=[overlay], overrides=["http.port=99999"]
    ) == [
        "fleet.yaml:1:9: redis.url: expected `embedded` or a redis://, rediss://, unix://, redis+sentinel:// or "
        "redis+cluster:// URL, "
        "found 'http://me:***@x'",
        "fleet.yaml:2:7: log.levle: unknown key; did you mean 'level'?",
        "fleet.yaml:3:25: pools.communication.processes: expected an integer from 1 to 256 or auto, found true",
        "fleet.yaml:6:5: queues.email-send.pool: expected the name of a pool, found 'comunication'; "
        "did you mean 'communication'?",
        "fleet.yaml:7:5: queues.email-send.concurrency: expected an integer from 1 to 10000, found 'many'",
        "fleet.yaml:8:5: queues.email-send.concurrency: duplicate key; first written at line 7",
        "fleet.yaml:9:5: queues.email-send.rate: expected a rate like 500/1m, found 5",
        "fleet.yaml:10:28: queues.email-send.scale.min: unknown key; known here: policy, limited_by",
        "fleet.yaml:11:5: queues.email-send.task.timeout: this key is required: a duration like 30s, 5m or 1h30m",
        "fleet.yaml:11:12: queues.email-send.task.retry: expected a mapping or never, found 'nevr'",
        "fleet.yaml:12:3: queues.sms-message.pool: this key is required: text",
        "fleet.yaml:12:3: queues.sms-message.concurrency: this key is required: an integer from 1 to 10000",
        "fleet.yaml:13:13: queues.sms-message.scale.policy: expected fixed, queue-depth or work-seconds, found 'quick'",
        "fleet.yaml:14:12: queues.sms-message.task.timeout: ${UNSET} is not set; set UNSET or UNSET_FILE, "
        "or give a default: ${UNSET:-…}",
        "fleet.yaml:15:12: queues.sms-message.keep.completed: expected a retention like 24h/5000, 24h, 5000, forever "
        "or none, found '24h/'",
        "fleet.yaml:16:5: queues.sms-message.lock: expected a duration of at least 1s, since the lock is renewed at "
        "half of it, found '100ms'",
        "fleet.yaml:17:3: queues.'a:b': expected a mapping, found nothing",
        "fleet.yaml:17:3: queues.'a:b': expected a queue's name without colons, as BullMQ has it",
        "over.yaml:1:24: queues.sms-message.stalls: expected an integer from 0 to 1000, found -1",
        f"FLEET__NOPE: nope: unknown key; known here: {KNOWN}",
        "FLEET__LOG__FORMAT: log.format: expected auto, json or pretty, found 'xml'",
        "--set: http.port: expected an integer from 0 to 65535, found '99999'",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("5", ["fleet.yaml:1:1: expected a mapping, found 5"]),
        ("[a]", ["fleet.yaml:1:1: expected a mapping, found a list"]),
        (
            "{}",
            [
                "fleet.yaml:1:1: pools: this key is required: a mapping",
                "fleet.yaml:1:1: queues: this key is required: a mapping",
            ],
        ),
        (
            "pools: {}\nqueues: {}\n",
            [
                "fleet.yaml:1:1: pools: expected at least one entry",
                "fleet.yaml:2:1: queues: expected at least one entry",
            ],
        ),
        (
            "pools: [a]\nqueues: x\n",
            [
                "fleet.yaml:1:1: pools: expected a mapping, found a list",
                "fleet.yaml:2:1: queues: expected a mapping, found 'x'",
            ],
        ),
    ],
)
def test_wrong_top_level_is_explained(write: Any, text: str, lines: list[str]) -> None:
    assert refusal(write(text)) == lines


def test_scale_rules_are_told_at_the_scale(write: Any) -> None:
    text = BASE.replace("min: 1, max: 10, up: 5, down: 1", "min: 5, max: 2, up: 5, down: 1")
    assert refusal(write(text)) == ["fleet.yaml:7:5: queues.email-send.scale: min must not exceed max"]
    text = BASE.replace("up: 5", "up: 1")
    assert refusal(write(text)) == ["fleet.yaml:7:5: queues.email-send.scale: down must be below up"]
    text = BASE.replace("policy: queue-depth, ", "")
    assert refusal(write(text)) == [
        "fleet.yaml:7:5: queues.email-send.scale.policy: this key is required: fixed, queue-depth or work-seconds"
    ]


def test_absent_files_are_all_named(tmp_path: Path) -> None:
    lines = refusal(tmp_path / "fleet.yaml", overlays=[tmp_path / "over.yaml"])
    assert [line.partition(": can't read ")[0] for line in lines] == ["fleet.yaml", "over.yaml"]


def test_files_named_alike_are_told_apart_by_their_paths(write: Any, tmp_path: Path) -> None:
    path, overlay = write(BASE), write("queues: {email-send: {stalls: x}}\n", "prod/fleet.yaml")
    assert refusal(path, overlays=[overlay]) == [
        f"{overlay}:1:23: queues.email-send.stalls: expected an integer from 0 to 1000, found 'x'"
    ]


@pytest.mark.parametrize(
    ("overlay", "line"),
    [
        ("queues: [1]", "over.yaml:1:1: queues: expected a mapping, found a list"),
        ("queues: {email-send: [1]}", "over.yaml:1:10: queues.email-send: expected a mapping, found a list"),
        (
            "queues: {email-send: {concurrency: {a: 1}}}",
            "over.yaml:1:23: queues.email-send.concurrency: expected an integer from 1 to 10000, found a mapping",
        ),
        ("[queues]", "over.yaml:1:1: expected a mapping, found a list"),
        ("pools: {communication: null}", "over.yaml:1:9: pools.communication: expected a mapping, found nothing"),
        ("", "over.yaml: expected a mapping of settings, found an empty file"),
    ],
)
def test_hostile_overlay_is_refused_where_it_is_wrong(write: Any, overlay: str, line: str) -> None:
    assert refusal(write(BASE), overlays=[write(overlay, "over.yaml")]) == [line]


def test_overlay_may_change_the_scaling_policy(write: Any) -> None:
    overlay = write("queues: {email-send: {scale: {policy: fixed}}}\n", "over.yaml")
    assert load(write(BASE), overlays=[overlay], env={}).config.queues["email-send"].scale.policy == "fixed"


def test_interpolated_number_is_read_and_never_as_yaml(write: Any) -> None:
    path = write(BASE.replace("concurrency: 5", 'concurrency: "${N}"') + 'redis: {prefix: "${P}"}\n')
    config = load(path, env={"N": "5", "P": "a: 1"}).config
    assert config.queues["email-send"].concurrency == 5
    assert config.redis.prefix == "a: 1"


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({"N": "hunter2"}, "found a value from ${N}"),
        ({"N": ""}, "found nothing: ${N} is empty"),
        ({"N": "0"}, "found a value from ${N}"),
    ],
)
def test_wrong_interpolated_value_is_named_by_its_variable(write: Any, env: dict[str, str], found: str) -> None:
    path = write(BASE.replace("concurrency: 5", 'concurrency: "${N}"'))
    assert refusal(path, env) == [
        f"fleet.yaml:6:5: queues.email-send.concurrency: expected an integer from 1 to 10000, {found}"
    ]


def test_wrong_or_empty_default_is_shown(write: Any) -> None:
    path = write(BASE.replace("concurrency: 5", 'concurrency: "${N:-many}"'))
    assert refusal(path)[0].endswith("found 'many'")
    path = write(BASE.replace("concurrency: 5", 'concurrency: "${N:-}"'))
    assert refusal(path)[0].endswith("found nothing: ${N:-} is empty")


def test_bad_secret_file_is_the_only_issue_of_its_key(write: Any) -> None:
    path = write(BASE.replace("timeout: 30s", 'timeout: "${T}"'))
    assert refusal(path, {"T_FILE": "/nowhere/t"}) == [
        "fleet.yaml:9:7: queues.email-send.task.timeout: T_FILE names '/nowhere/t', which can't be read: "
        "No such file or directory"
    ]


def test_process_environment_is_used_by_default(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET__QUEUES__EMAIL_SEND__CONCURRENCY", "3")
    assert load(write(BASE)).config.queues["email-send"].concurrency == 3


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
DURATIONS = st.sampled_from(["1s", "2.5s", "1h30m", "3d", 7, 0.25])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FLOATS | st.text(max_size=5),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=4), below, max_size=2),
    max_leaves=5,
)
RETRIES = st.just("never") | st.fixed_dictionaries(
    {},
    optional={
        "attempts": st.integers(1, 1000),
        "backoff": st.sampled_from(["none", "10s", "2s x2", "2s x1.5 max 5m", 3]),
        "jitter": st.sampled_from(["20%", 0.1, "0"]),
        "over_job": st.lists(st.sampled_from(["attempts", "backoff"]), max_size=2),
    },
)
SCALES = st.sampled_from(
    [
        {"policy": "fixed", "limited_by": "provider"},
        {"policy": "queue-depth", "min": 1, "max": 10, "up": 5, "down": 1, "cooldown": "60s"},
        {"policy": "work-seconds", "min": 0, "max": 3, "drain_in": "2m"},
    ]
)
SLOS = st.fixed_dictionaries(
    {},
    optional={"p50": DURATIONS, "errors": st.just("5%"), "throughput": st.just("500/1m"), "backlog": st.integers(0, 9)},
)
QUEUES = st.fixed_dictionaries(
    {
        "pool": st.just("p"),
        "concurrency": st.integers(1, 10_000),
        "task": st.fixed_dictionaries(
            {"timeout": DURATIONS},
            optional={"retry": RETRIES, "options": st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3)},
        ),
    },
    optional={
        "rate": st.sampled_from(["100/1m", "1/250ms"]) | st.none(),
        "max_data": st.sampled_from(["4MB", 1000]),
        "keep": st.fixed_dictionaries({}, optional={"failed": st.sampled_from(["forever", "none", "24h/5", 7])}),
        "slo": SLOS,
        "scale": SCALES,
    },
)
TREES = st.fixed_dictionaries(
    {"pools": st.just({"p": {"grace": "1m"}}), "queues": st.dictionaries(NAMES, QUEUES, min_size=1, max_size=3)}
)


@given(TREES)
@settings(max_examples=60)
def test_configuration_survives_its_way_to_a_child_process(tree: dict[str, Any]) -> None:
    config = FleetConfig.model_validate(tree)
    assert FleetConfig.model_validate_json(config.model_dump_json()) == config
    assert FleetConfig.model_validate(config.model_dump()) == config


UPPER_KEYS = st.sampled_from(["redis", "url", "pools", "queues", "q", "pool", "concurrency", "scale", "policy", "slo"])
LOWER_KEYS = st.sampled_from(["task", "timeout", "retry", "options", "password", "keep", "${X}", "a.b", "0", ""])
KEYS = UPPER_KEYS | LOWER_KEYS
WORDS = st.sampled_from(["fixed", "never", "30s", "${X}", "${X:-5}", "${", "5", "", "null", "queue-depth"])
HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | WORDS | st.text(max_size=4),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=20,
)
QUEUE_TREES = st.fixed_dictionaries(
    {"pools": HOSTILE, "queues": st.dictionaries(KEYS, st.fixed_dictionaries({"task": HOSTILE, "scale": HOSTILE}))}
)
VARIABLES = st.dictionaries(
    st.lists(KEYS | st.just("CONCURRENCY"), max_size=4).map(lambda keys: "__".join(["FLEET", *keys]).upper()),
    WORDS | st.sampled_from(["{", "[a", "{a: 1}", "\udce9"]),
    max_size=3,
)


@given(HOSTILE | QUEUE_TREES, HOSTILE, VARIABLES, st.sampled_from([{}, {"X": "hunter2hunter2"}]))
@settings(max_examples=150, deadline=None)
def test_hostile_input_is_refused_with_places_and_without_secrets(
    base: Any, overlay: Any, variables: dict[str, str], secret: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, over = Path(name, "fleet.yaml"), Path(name, "over.yaml")
        path.write_text(json.dumps(base))
        over.write_text(json.dumps(overlay))
        try:
            loaded = load(path, overlays=[over], env=variables | secret)
        except ConfigError as error:
            text = str(error)
            assert error.issues
            assert text.count("\n") == len(error.issues) - 1
            assert all(issue.source.startswith(("fleet.yaml", "over.yaml", "FLEET")) for issue in error.issues)
        else:
            text = json.dumps(loaded.resolved()["redis"])
        if "X" in secret and '"${X}"' not in json.dumps([base, overlay]):
            assert "hunter2" not in text

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.errors import ConfigError
from config.loader import LoadedConfig, load
from config.schema import FleetConfig

TEXT = """\
redis: {url: "redis://me:hunter1@host/0"}
pools:
  communication: {processes: 1}
queues:
  email-send:
    pool: communication
    concurrency: 5
    task:
      timeout: 30s
      retry: never
      options:
        smtp_url: "${SMTP_URL:-smtp://127.0.0.1:1025}"
        login: "user ${SMTP_PASSWORD}"
        password: "${SMTP_PASSWORD}"
        api_key: hunter3
        fallback_token: "${NOT_SET:-hunter4}"
        max_tokens: 4000
        credentials: {user: me, pin: 1234}
        servers: [{host: a}, {host: b}]
        empty: {}
"""
OPTIONS = ("queues", "email-send", "task", "options")
SECRETS = ("hunter1", "hunter2", "hunter3", "hunter4", "1234")


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    (tmp_path / "fleet.yaml").write_text(TEXT)
    (tmp_path / "secret").write_text("hunter2\n")
    return load(
        tmp_path / "fleet.yaml",
        env={"SMTP_PASSWORD_FILE": str(tmp_path / "secret"), "FLEET__LOG__LEVEL": "debug"},
        overrides=["http.port=0"],
    )


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (("queues", "email-send", "concurrency"), "fleet.yaml:7:5"),
        (("queues", "email-send", "stalls"), "default"),
        (("redis", "prefix"), "default"),
        (("tracing", "enabled"), "default"),
        (("log", "level"), "env FLEET__LOG__LEVEL"),
        (("http", "port"), "--set http.port"),
        (("queues", "email-send", "task", "retry", "attempts"), "fleet.yaml:10:7"),
        ((*OPTIONS, "smtp_url"), "fleet.yaml:12:9 default of ${SMTP_URL}"),
        ((*OPTIONS, "password"), "fleet.yaml:14:9 from ${SMTP_PASSWORD_FILE}"),
        ((*OPTIONS, "servers", 1, "host"), "fleet.yaml:19:31"),
    ],
)
def test_origin_says_who_wrote_a_value(loaded: LoadedConfig, path: tuple[str | int, ...], origin: str) -> None:
    assert loaded.origin(path) == origin


def test_nothing_that_is_shown_holds_a_secret(loaded: LoadedConfig) -> None:
    shown = [
        json.dumps(loaded.resolved()),
        json.dumps(loaded.merged()),
        *(f"{leaf.path} {leaf.value} {leaf.origin}" for leaf in loaded.explain()),
    ]
    for text in shown:
        assert not [secret for secret in SECRETS if secret in text]


def test_resolved_is_in_human_form_and_masked(loaded: LoadedConfig) -> None:
    resolved = loaded.resolved()
    queue = resolved["queues"]["email-send"]
    assert resolved["redis"]["url"] == "redis://me:***@host/0"
    assert queue["task"]["timeout"] == "30s"
    assert queue["max_data"] == "4MB"
    assert queue["keep"] == {"completed": "24h/5000", "failed": "24h/5000"}
    assert queue["task"]["options"] == {
        "smtp_url": "smtp://127.0.0.1:1025",
        "login": "user ***",
        "password": "***",
        "api_key": "***",
        "fallback_token": "***",
        "max_tokens": 4000,
        "credentials": {"user": "***", "pin": "***"},
        "servers": [{"host": "a"}, {"host": "b"}],
        "empty": {},
    }


def test_resolved_without_redaction_loads_as_the_same_configuration(loaded: LoadedConfig) -> None:
    assert FleetConfig.model_validate(loaded.resolved(redact=False)) == loaded.config
    assert loaded.resolved(redact=False)["queues"]["email-send"]["task"]["options"]["password"] == "hunter2"


def test_merged_shows_references_as_written(loaded: LoadedConfig) -> None:
    merged = loaded.merged()
    assert merged["log"] == {"level": "debug"}
    assert "tracing" not in merged
    options = merged["queues"]["email-send"]["task"]["options"]
    assert options["smtp_url"] == "${SMTP_URL:-smtp://127.0.0.1:1025}"
    assert options["password"] == "${SMTP_PASSWORD}"
    assert options["fallback_token"] == "***"
    assert loaded.merged(redact=False)["queues"]["email-send"]["task"]["options"]["api_key"] == "hunter3"


def test_explain_lists_each_leaf_once_with_its_origin(loaded: LoadedConfig) -> None:
    leaves = {leaf.path: (leaf.value, leaf.origin) for leaf in loaded.explain(("queues", "email-send", "task"))}
    base = "queues.email-send.task"
    assert leaves[f"{base}.timeout"] == ("30s", "fleet.yaml:9:7")
    assert leaves[f"{base}.retry.over_job"] == ('["attempts"]', "fleet.yaml:10:7")
    assert leaves[f"{base}.options.servers[1].host"] == ("b", "fleet.yaml:19:31")
    assert leaves[f"{base}.options.empty"] == ("{}", "fleet.yaml:20:9")
    assert f"{base}.options" not in leaves
    assert len(loaded.explain()) > len(leaves)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("queues.email-send", ("queues", "email-send")),
        ("Queues.EMAIL_SEND.task.timeout", ("queues", "email-send", "task", "timeout")),
        ("tracing.parent", ("tracing", "parent")),
    ],
)
def test_key_is_found_by_its_dotted_name(loaded: LoadedConfig, name: str, path: tuple[str, ...]) -> None:
    assert loaded.find(name) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("queues.email-sned", "unknown key; did you mean 'email-send'?"),
        ("queues.email-send.scale.drain_in", "not in force here"),
        ("queues.email-send.task.options.nope", "not in force here"),
        ("log.level.x", "this is a single value; it has no keys"),
    ],
)
def test_unknown_key_is_answered_with_the_nearest(loaded: LoadedConfig, name: str, message: str) -> None:
    with pytest.raises(LookupError, match=message.replace("?", r"\?")):
        loaded.find(name)


def test_issue_is_placed_at_the_key_or_what_holds_it(loaded: LoadedConfig) -> None:
    assert str(loaded.issue(("queues", "email-send", "concurrency"), "too many")) == (
        "fleet.yaml:7:5: queues.email-send.concurrency: too many"
    )
    assert str(loaded.issue(["queues", "email-send", "lock"], "x")) == "fleet.yaml:5:3: queues.email-send.lock: x"
    assert str(loaded.issue(("log", "level"), "x")) == "FLEET__LOG__LEVEL: log.level: x"


class Server(BaseModel):
    host: str


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    smtp_url: str
    login: str
    password: SecretStr
    api_key: SecretStr
    fallback_token: str
    max_tokens: int = Field(gt=0)
    credentials: dict[str, str | int]
    servers: list[Server]
    empty: dict[str, str]


def refusal(loaded: LoadedConfig, model: type[BaseModel]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded.options("email-send", model)
    text = str(caught.value)
    assert not [secret for secret in SECRETS if secret in text]
    return [line.replace("queues.email-send.task.", "") for line in text.splitlines()]


def test_options_become_the_modules_model(loaded: LoadedConfig) -> None:
    options = loaded.options("email-send", Options)
    assert options.password.get_secret_value() == "hunter2"
    assert options.servers == [Server(host="a"), Server(host="b")]


def test_wrong_options_are_placed_and_name_no_secret(loaded: LoadedConfig) -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

        smtp_url: HttpUrl
        login: int
        password: int
        api_key: Literal["a", "b"]
        max_tokens: int = Field(gt=0, le=1000)
        credentials: str
        servers: list[int]
        emptee: str

    assert refusal(loaded, Strict) == [
        "fleet.yaml:12:9: options.smtp_url: URL scheme should be 'http' or 'https'; found 'smtp://127.0.0.1:1025'",
        "fleet.yaml:13:9: options.login: expected an integer, found a value from ${SMTP_PASSWORD_FILE}",
        "fleet.yaml:14:9: options.password: expected an integer, found a value from ${SMTP_PASSWORD_FILE}",
        "fleet.yaml:15:9: options.api_key: expected a or b, found a value that is not shown",
        "fleet.yaml:17:9: options.max_tokens: expected an integer above 0 and of at most 1000, found 4000",
        "fleet.yaml:18:9: options.credentials: expected text, found a mapping",
        "fleet.yaml:19:19: options.servers[0]: expected an integer, found a mapping",
        "fleet.yaml:19:30: options.servers[1]: expected an integer, found a mapping",
        "fleet.yaml:11:7: options.emptee: this key is required: text",
        "fleet.yaml:16:9: options.fallback_token: unknown key; known here: smtp_url, login, password, api_key, "
        "max_tokens, credentials, servers, emptee",
        "fleet.yaml:20:9: options.empty: unknown key; did you mean 'emptee'?",
    ]


def test_validator_that_quotes_a_secret_is_scrubbed(loaded: LoadedConfig) -> None:
    class Talkative(BaseModel):
        login: str
        api_key: str

        @field_validator("login")
        @classmethod
        def _check(cls, value: str) -> str:
            raise ValueError(f"{value!r} is no login")

        @field_validator("api_key")
        @classmethod
        def _key(cls, value: str) -> str:
            raise PydanticCustomError("key", "the key {key} is wrong", {"key": value})

    assert refusal(loaded, Talkative) == [
        "fleet.yaml:13:9: options.login: '${SMTP_PASSWORD_FILE}' is no login",
        "fleet.yaml:15:9: options.api_key: the key *** is wrong",
    ]


def test_model_validator_is_scrubbed_of_all_secrets_below(loaded: LoadedConfig) -> None:
    class Whole(BaseModel):
        password: str
        credentials: dict[str, str | int]

        @model_validator(mode="after")
        def _check(self) -> Whole:
            raise ValueError(f"{self.password} does not fit {self.credentials['user']}")

    assert refusal(loaded, Whole) == ["fleet.yaml:11:7: options: ${SMTP_PASSWORD_FILE} does not fit ***"]


def test_union_errors_are_told_once_for_each_value(loaded: LoadedConfig) -> None:
    class Either(BaseModel):
        smtp_url: int | bool
        servers: list[Server] | int

    assert refusal(loaded, Either) == [
        "fleet.yaml:12:9: options.smtp_url: expected an integer or true or false, found 'smtp://127.0.0.1:1025'",
    ]


def test_printing_a_configuration_shows_no_secret(loaded: LoadedConfig) -> None:
    for text in (repr(loaded), repr(loaded.config), str(loaded.config)):
        assert not [secret for secret in SECRETS if secret in text]


def test_unknown_queue_has_no_options(loaded: LoadedConfig) -> None:
    with pytest.raises(KeyError):
        loaded.options("sms-message", Options)

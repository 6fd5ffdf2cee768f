"""The section `redis`: safe where nothing is said, and exact where something is."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.loader import load
from config.redis_section import RedisConfig
from config.units import HUMAN

REST = """
pools: {p: {}}
queues: {email-send: {pool: p, concurrency: 1, task: {timeout: 1s}}}
"""


def read(path: Path, redis: str, env: dict[str, str] | None = None) -> RedisConfig:
    file = path / "fleet.yaml"
    file.write_text(f"redis: {redis}\n{REST}", encoding="utf-8")
    return load(file, env=env or {}).config.redis


def test_defaults_are_safe(tmp_path: Path) -> None:
    redis = read(tmp_path, "{}")
    assert redis.model_dump(context=HUMAN, exclude={"url", "prefix", "data_dir", "allow_eviction"}) == {
        "username": None,
        "password": None,
        "connect_timeout": "5s",
        "command_timeout": "15s",
        "keepalive": "30s",
        "max_connections": 16,
        "reconnect": {"first": "100ms", "max": "3s"},
        "tls": {"ca_file": None, "cert_file": None, "key_file": None, "verify": True, "server_name": None},
        "sentinel": {"username": None, "password": None},
    }


def test_what_the_environment_leaves_empty_is_not_given(tmp_path: Path) -> None:
    redis = read(
        tmp_path,
        '{password: "${PASSWORD:-}", tls: {ca_file: "${CA:-}"}, sentinel: {username: "${USER_AT:-}"}}',
    )
    assert (redis.password, redis.tls.ca_file, redis.sentinel.username) == (None, None, None)


def test_password_may_come_from_a_file_with_every_character(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("a@b:/%é\n", encoding="utf-8")
    redis = read(tmp_path, '{password: "${REDIS_PASSWORD}"}', {"REDIS_PASSWORD_FILE": str(secret)})
    assert redis.password == "a@b:/%é"
    assert "a@b" not in repr(redis)


@pytest.mark.parametrize(
    ("redis", "issue"),
    [
        ("{max_connections: 0}", "redis.max_connections: expected an integer from 1 to 1000, found 0"),
        ("{reconnect: {first: 5s, max: 1s}}", "redis.reconnect: first must not exceed max"),
        ("{tls: {verify: perhaps}}", "redis.tls.verify: expected true or false, found 'perhaps'"),
        ("{tls: {cafile: x}}", "redis.tls.cafile: unknown key; did you mean 'ca_file'?"),
        ("{keepalive: 0}", "redis.keepalive: expected a duration from 1ms to 3650d, found 0"),
        ("{sentinel: {password: [secret]}}", "redis.sentinel.password: expected text, found a list"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, redis: str, issue: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, redis)
    (line,) = str(refused.value).splitlines()
    assert issue in line
    assert "secret" not in line

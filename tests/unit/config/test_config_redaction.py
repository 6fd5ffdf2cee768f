from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.redaction import is_secret, mask_url, redact, scrub, url_passwords


@pytest.mark.parametrize(
    "key",
    ["password", "smtp_password", "SECRET", "client_secret", "token", "apiKey", "api_key", "sentry_dsn", "credentials"],
)
def test_secret_keys_are_known_by_their_names(key: str) -> None:
    assert is_secret(("queues", "q", "task", "options", key))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("queues", "token-refresh", "concurrency"), 5),
        (("pools", "key-rotation", "grace"), "30s"),
        (("redis", "prefix"), "bull"),
        (("redis", "tls", "key_file"), "/run/secrets/redis.key"),
        (("queues", "q", "task", "options", "username"), "me"),
        (("queues", "q", "task", "options", "max_tokens"), 4000),
        (("queues", "q", "task", "options", "password"), None),
    ],
)
def test_names_of_queues_and_limits_are_no_secrets(path: tuple[str, ...], value: Any) -> None:
    assert not is_secret(path, value)


@pytest.mark.parametrize("path", [("redis", "sentinel", "password"), ("secrets", "key_file")])
def test_secret_is_known_by_any_name_on_its_path(path: tuple[str, ...]) -> None:
    assert is_secret(path)


def test_numeric_password_is_a_secret() -> None:
    assert is_secret(("queues", "q", "task", "options", "password"), 1234)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://me:pw@host", "redis://me:***@host"),
        ("smtp://me:p@ss/w?rd@host", "smtp://me:***@host"),
        ("smtp://me@example.com:pw@host", "smtp://me@example.com:***@host"),
        ("redis://a:1@h1,redis://b:2@h2", "redis://a:***@h2"),
        ("see redis://a:1@h1 and redis://b:2@h2", "see redis://a:***@h1 and redis://b:***@h2"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://me@host:6379", "redis://me@host:6379"),
        ("redis://h?password=pw&db=1", "redis://h?password=***&db=1"),
        ("https://h/?a=1&access_token=x#y", "https://h/?a=1&access_token=***#y"),
        ("30s", "30s"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked


SECRETS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=20)


@given(SECRETS)
def test_no_password_survives_masking(secret: str) -> None:
    unique = f"<<{secret}>>"
    assert unique not in mask_url(f"redis://user:{unique}@host:6379/0")
    assert unique in url_passwords(f"redis://user:{unique}@host:6379/0")


def test_redaction_goes_into_containers() -> None:
    options = {"credentials": {"user": "me", "pin": 1234}, "urls": ["redis://:pw@h"], "timeout": "10s", "password": ""}
    assert redact(options, ()) == {
        "credentials": {"user": "***", "pin": "***"},
        "urls": ["redis://:***@h"],
        "timeout": "10s",
        "password": "",
    }


def test_longer_secret_is_scrubbed_first() -> None:
    assert scrub("found smtp://a:b", {"a:b": "${S}", "smtp://a:b": "${URL}", "": "x"}) == "found ${URL}"

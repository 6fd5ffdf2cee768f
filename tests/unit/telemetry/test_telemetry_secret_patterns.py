from __future__ import annotations

import pytest

from workers.telemetry.secret_patterns import is_measure, is_secret_key, secret_spans


@pytest.mark.parametrize(
    "key", ["smtp_password", "X-Api-Key", "accessToken", "SMTP_PASS", "x" * 300 + "_secret", "pin"]
)
def test_telling_key_is_known(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["", "passenger", "spinning", "host", "author", "x" * 300])
def test_innocent_key_tells_nothing(key: str) -> None:
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("key", "measure"), [("max_tokens", True), ("tokenTtlS", True), ("token", False), ("secret", False)]
)
def test_counts_are_told_from_secrets(key: str, measure: bool) -> None:
    assert is_measure(key) is measure


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("nothing here", []),
        ("https://example.com/a@b", ["example.com/a"]),
        ("redis://:hunter2@cache:6379 and password=swordfish", [":hunter2", "swordfish"]),
        ("write to ann@example.com", ["nn"]),
        ("bullmq@6.7.0 read 12 tokens: 12", []),
        ("token: {'password': 'x y'}", ["{'password':", "'x y'"]),
    ],
)
def test_spans_hold_the_secret_and_nothing_else(text: str, secrets: list[str]) -> None:
    assert [text[start:end] for start, end in secret_spans(text, cut=False)] == secrets


def test_url_at_the_cut_may_have_lost_its_at_sign() -> None:
    text = "redis://user:hunter"
    assert secret_spans(text, cut=False) == []
    assert [text[start:end] for start, end in secret_spans(text, cut=True)] == ["user:hunter"]

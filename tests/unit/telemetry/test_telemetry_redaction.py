"""No planted secret survives redaction, and nothing it is given makes it fail or slow."""

from __future__ import annotations

import json
import string
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from workers.telemetry.redaction import (
    HIDDEN,
    MAX_NODES,
    MAX_TEXT,
    MAX_TOTAL,
    MORE,
    redact,
    redact_text,
)
from workers.telemetry.secret_patterns import is_secret_key

SECRET = st.text(string.ascii_letters + string.digits, min_size=20, max_size=60).map(lambda s: f"Zq9{s}")
KEYS = st.sampled_from(
    [
        "password",
        "smtp_password",
        "SMTP_PASS",
        "clientSecret",
        "accessToken",
        "refresh-token",
        "Authorization",
        "Set-Cookie",
        "x-api-key",
        "apiKey",
        "sentry_dsn",
        "AWS_SECRET_ACCESS_KEY",
        "credentials",
        "private_key",
        "x" * 300 + "password",
        b"password",
    ]
)
#: Where a secret stands in a text so that its surroundings tell what it is.
PLANTED: dict[str, Callable[[str], str]] = {
    "url": lambda s: f"redis://user:{s}@cache.internal:6379/0",
    "url with / and @ in the password": lambda s: f"amqp://u:a/b@{s}@host/vhost",
    "url without user": lambda s: f"rediss://:{s}@host",
    "token as user": lambda s: f"https://{s}@git.example.com/x.git",
    "bearer": lambda s: f"Bearer {s}",
    "header": lambda s: f"Authorization: Basic {s}",
    "cookie": lambda s: f"Cookie: theme=dark; sid={s}; x=1",
    "json": lambda s: json.dumps({"user": "x", "password": s}),
    "json in json": lambda s: json.dumps(json.dumps({"apiKey": s})),
    "python repr": lambda s: repr({"client_secret": s}),
    "dataclass repr": lambda s: f"Settings(host='h', smtp_password='a b {s}', port=1)",
    "bytes repr": lambda s: f"password={s.encode()!r}",
    "assignment": lambda s: f"OPENAI_API_KEY={s}",
    "query": lambda s: f"/v1/x?token={s}&page=2",
    "yaml": lambda s: f"passphrase: {s}",
    "jwt": lambda s: f"eyJhbGciOiJIUzI1NiJ9.{s}.{s}",
    "openai": lambda s: f"sk-proj-{s}",
    "stripe": lambda s: f"sk_live_{s}",
    "github": lambda s: f"ghp_{s}",
    "github fine-grained": lambda s: f"github_pat_{s}",
    "aws": lambda s: f"AKIA{s.upper()}",
    "slack": lambda s: f"xoxb-{s}",
    "sendgrid": lambda s: f"SG.{s}.{s}",
    "google": lambda s: f"AIza{s}{s}",
    "npm": lambda s: f"npm_{s}{s}",
    "pem": lambda s: f"-----BEGIN RSA PRIVATE KEY-----\n{s}\n{s}\n-----END RSA PRIVATE KEY-----",
}
#: No deadline: a slow machine is no failure.
EXAMPLES = settings(max_examples=40, deadline=None)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)


def nested(core: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The core somewhere inside dicts, lists, tuples and deques, among other values."""

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.tuples(st.lists(LEAVES, max_size=3), inner, st.lists(LEAVES, max_size=3)).map(
                lambda parts: [*parts[0], parts[1], *parts[2]]
            ),
            st.tuples(st.dictionaries(st.text(max_size=5), LEAVES, max_size=3), st.text(max_size=5), inner).map(
                lambda parts: {**parts[0], parts[1]: parts[2]}
            ),
            inner.map(lambda value: (value,)),
            inner.map(lambda value: deque([1, value])),
        )

    return st.recursive(core, around, max_leaves=3)


def shown(value: object) -> str:
    return json.dumps(redact(value), ensure_ascii=False)


@EXAMPLES
@given(st.data())
def test_a_value_under_a_telling_key_never_appears_at_any_depth(data: st.DataObject) -> None:
    secret, key = data.draw(SECRET), data.draw(KEYS)
    value = data.draw(
        st.sampled_from([secret, [secret], {"a": {"b": secret}}, f" {secret}\n{secret}", {secret: 1}, (secret, 1)])
    )
    planted = data.draw(nested(st.just({key: value})))
    assert secret not in shown(planted)


@EXAMPLES
@given(st.data())
def test_a_value_beside_its_telling_name_never_appears(data: st.DataObject) -> None:
    secret, key = data.draw(SECRET), data.draw(KEYS.filter(lambda k: isinstance(k, str) and len(k) < 300))
    pair = data.draw(
        st.sampled_from([(key, secret), [key, [secret]], {"name": key, "value": secret}, {"value": secret, "key": key}])
    )
    assert secret not in shown(data.draw(nested(st.just(pair))))


@pytest.mark.parametrize("kind", PLANTED)
@EXAMPLES
@given(st.data())
def test_a_secret_inside_a_text_never_appears(kind: str, data: st.DataObject) -> None:
    secret = data.draw(SECRET)
    before = data.draw(st.text(max_size=30)) + data.draw(st.sampled_from(["", " ", "\n", "(", "'", ": "]))
    if before[-1:].isalnum():  # `xsk-…` is no key: `task-1234` must stay readable
        before += " "
    after = data.draw(st.sampled_from(["", " ", "\n", " failed"])) + data.draw(st.text(max_size=30))
    text = before + PLANTED[kind](secret) + (after if not after[:1].isalnum() else f" {after}")
    out = shown({"reason": [text]})
    assert secret not in out
    assert secret.upper() not in out


@pytest.mark.parametrize("kind", PLANTED)
def test_a_secret_across_the_cut_leaves_no_part(kind: str) -> None:
    secret = "Zq9" + "".join(f"{n:03d}" for n in range(20))
    planted = PLANTED[kind](secret)
    for kept in range(1, len(planted) + 1):
        out = redact_text("x " * (MAX_TEXT // 2) + planted + " the rest", MAX_TEXT + kept)
        assert "Zq9" not in out
        assert "Q9000001" not in out.upper()


def test_a_password_longer_than_what_is_searched_does_not_appear() -> None:
    assert "hunter2" not in redact_text("dial redis://u:" + "hunter2" * 5_000 + "@host", MAX_TEXT)


@EXAMPLES
@given(st.text(string.ascii_letters, min_size=2, max_size=20), st.sampled_from(["a.example.com", "bücher.example"]))
def test_an_address_keeps_its_first_letter_and_domain(local: str, domain: str) -> None:
    assert redact_text(f"to <{local}@{domain}>, refused") == f"to <{local[0]}***@{domain}>, refused"


@pytest.mark.parametrize(
    "text",
    [
        "job task-12345678901234567890 completed in 12 ms",
        "bullmq@6.7.0 on https://example.com:8443/path?page=2",
        "max_tokens: 4096, tokens=12 used",
        "Basic understanding of bearer tokens",
        "secretary and passwords are words",
        "550 5.1.1 user unknown",
        "redis://127.0.0.1:6379/0",
        "",
    ],
)
def test_an_innocent_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        ({"max_tokens": 4096, "token_ttl_s": 3.5}, {"max_tokens": 4096, "token_ttl_s": 3.5}),
        ({"otp": 123456, "password": 42}, {"otp": HIDDEN, "password": HIDDEN}),
        ({"has_password": True, "token": None, "secret": ""}, {"has_password": True, "token": None, "secret": ""}),
        ({"author": "x", "compass": "y", "keyboard": "z"}, {"author": "x", "compass": "y", "keyboard": "z"}),
        ([float("nan"), float("-inf"), 1.5], ["nan", "-inf", 1.5]),
        (10**30, 10**30),
        (10**5000, "<int of 16610 bits>"),
        (b"secret", "<6 bytes>"),
        (datetime(2026, 11, 24, tzinfo=UTC), "2026-11-24 00:00:00+00:00"),
        (ValueError("no password=x"), "ValueError: no password=***"),
        ({1: "a", (2, 3): "b"}, {"1": "a", "(2, 3)": "b"}),
        ({"b"}, ["b"]),
    ],
    ids=range(12),
)
def test_values_become_plain_json(value: object, copy: object) -> None:
    assert redact(value) == copy


@dataclass
class Settings:
    host: str
    smtp_password: str


class Pair(NamedTuple):
    host: str
    smtp_password: str


class Options(BaseModel, extra="allow"):
    host: str
    api_key: str


def test_models_dataclasses_and_named_tuples_are_shown_by_their_fields() -> None:
    hidden = {"host": "h", "smtp_password": HIDDEN}
    assert redact(Settings("h", "a b c")) == hidden
    assert redact(Pair("h", "a b c")) == hidden
    options = Options.model_validate({"host": "h", "api_key": "a b c", "cookie": "d"})
    assert redact(options) == {"host": "h", "api_key": HIDDEN, "cookie": HIDDEN}


def test_a_key_of_the_whole_value_counts() -> None:
    assert redact("x", key="smtp_password") == HIDDEN
    assert is_secret_key("smtpPassword")
    assert not is_secret_key("passenger")


class Hostile:
    """Raises at every question that printing asks."""

    def __repr__(self) -> NoReturn:
        raise RecursionError("no")

    __str__ = __repr__


class HostileText(str):
    def __getitem__(self, key: object) -> NoReturn:
        raise ValueError

    def __str__(self) -> NoReturn:
        raise ValueError

    def __len__(self) -> NoReturn:
        raise ValueError


class Endless(dict[str, int]):
    def items(self) -> Iterator[tuple[str, int]]:  # type: ignore[override]
        n = 0
        while True:
            n += 1
            yield str(n), n


class HostileError(Exception):
    def __str__(self) -> NoReturn:
        raise KeyError


class Loud(int):
    def __repr__(self) -> str:
        return "loud"


def test_hostile_values_are_named_not_raised() -> None:
    assert redact([Hostile(), {"a": Hostile()}]) == ["<unprintable Hostile>", {"a": "<unprintable Hostile>"}]
    assert redact(HostileText("password=x")) == "password=***"
    assert redact(HostileError()) == "<unprintable HostileError>"
    assert json.dumps(redact({"n": Loud(3)})) == '{"n": 3}'


def test_endless_deep_and_circular_values_end() -> None:
    endless = redact(Endless())
    assert isinstance(endless, dict)
    assert len(endless) <= MAX_NODES + 1
    circle: list[Any] = []
    circle.append(circle)
    assert MORE in shown(circle)
    wide = [[[list(range(100))] * 100] * 100] * 100
    assert len(shown(wide)) < 10 * MAX_NODES


def test_a_huge_value_is_cut_and_says_so() -> None:
    assert redact_text("x" * 5_000_000) == "x" * MAX_TEXT + f"{MORE} (+{5_000_000 - MAX_TEXT} characters)"
    assert len(shown(["x" * 1_000_000] * 100)) < 2 * MAX_TOTAL


@EXAMPLES
@given(st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v), max_leaves=20))
def test_every_value_becomes_json(value: Any) -> None:
    json.loads(json.dumps(redact(value), allow_nan=False))


@pytest.mark.parametrize(
    "text",
    ["://" * 1700, "a@" * 2600, "password=" * 570, 'password="\\' * 500, "-----BEGIN RSA PRIVATE KEY" * 200,
     "authorization" * 400, "eyJ" * 1700, "a." * 2600 + "@", "token" + " " * 5000, "a@" + "b." * 2600, "'" * 5000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_no_text_makes_the_search_explode(text: str) -> None:
    # A regex that backtracks exponentially would run into the time-out of this test.
    redact_text(text)


def test_job_ids_stay_searchable_but_show_no_address() -> None:
    assert redact({"job_id": "user2:reset-password:mwu5"}) == {"job_id": "user2:reset-password:mwu5"}
    assert redact({"job_id": "dana@example.com-1"}) == {"job_id": f"d{HIDDEN}@example.com-1"}
    assert redact({"reason": "reset-password:mwu5"}) == {"reason": f"reset-password:{HIDDEN}"}

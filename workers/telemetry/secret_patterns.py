"""What gives a secret away: the key that it stands under, or its look in a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_MAX_KEY = 256

_STEMS = (
    "password", "passwd", "passphrase", "passcode", "secret", "token", "authorization", "cookie", "apikey", "dsn",
    "credential", "accesskey", "signingkey", "encryptionkey",
)  # fmt: skip
_WORDS = frozenset({"pass", "pwd", "auth", "jwt", "otp", "pin", "cvv", "private"})
#: A number under a key with one of these words is a measure (`max_tokens`, `token_ttl_s`), no secret.
_MEASURES = frozenset({"tokens", "count", "limit", "budget", "length", "size", "ttl", "age", "s", "ms", "used"})


@lru_cache(maxsize=1024)
def _words(key: str) -> tuple[str, ...]:
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return tuple(re.findall(r"[^\W_]+", split.lower()))


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    words = _words(key)
    joined = "".join(words)
    return any(stem in joined for stem in _STEMS) or not _WORDS.isdisjoint(words)


def _short(key: str) -> str:
    """What of a key is looked at; bounds the caches."""
    return key if len(key) <= _MAX_KEY else f"{key[:128]} {key[-128:]}"


def is_measure(key: str) -> bool:
    """Whether a number under this key (`max_tokens`, `token_ttl_s`) counts or measures something."""
    return not _MEASURES.isdisjoint(_words(_short(key)))


def is_secret_key(key: str) -> bool:
    """Whether a key (`smtp_password`, `X-Api-Key`, `accessToken`) says that its value is a secret."""
    return _is_secret(_short(key))


@dataclass(frozen=True)
class _Rule:
    """Group 1 of each match is hidden. The regex runs only over texts that contain one of `triggers`."""

    triggers: tuple[str, ...]
    pattern: re.Pattern[str]


#: An address keeps the first letter and the domain (RFC 5321: local part up to 64). `bullmq@6.7.0` is none.
ADDRESS = re.compile(
    r"(?<![\w.+%'-])[\w.+%'-]([\w.+%'-]{0,63})@(?=(?:[\w-]{1,63}\.){1,8}(?:xn--[\w-]{1,59}|[^\W\d_]{2,}))"
)
_QUOTED = r"""\\{0,4}[bru]{0,2}(?:"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?)"""
_RULES = (
    # password=…, "accessToken": "…", api-key => …, also inside JSON inside JSON. `tokens: 12` is a measure.
    _Rule(
        ("pass", "pwd", "secret", "token", "key", "authorization", "cookie", "dsn", "credential"),
        re.compile(
            r"(?is)(?:password|passwd|passphrase|passcode|pwd|(?<![a-z])pass(?==)|secret|token(?!s\W{1,6}\d+\b)"
            r"|authorization|cookie|dsn|credential|(?:api|access|private|signing|encryption)[-_ ]?key)"
            rf"[\w-]{{0,16}}\\{{0,4}}[\"']?\s{{0,3}}(?:=>?|:)\s{{0,3}}({_QUOTED}|(?:bearer|basic|digest)\s+\S+|\S+)"
        ),
    ),
    # A header runs to the end of its line: `Cookie: a=1; b=2`
    _Rule(
        ("authorization", "cookie"),
        re.compile(r"(?i)(?:authorization|cookie)[\w-]{0,16}\s{0,3}[:=]\s{0,3}([^\r\n\"']+)"),
    ),
    _Rule(("bearer",), re.compile(r"(?i)(?<![a-z0-9])bearer\s{1,3}([\w.~+/=-]{8,})")),
    _Rule(("basic",), re.compile(r"(?<![A-Za-z0-9])[Bb]asic\s{1,3}((?=[a-z]*[A-Z0-9+/=])[A-Za-z0-9+/]{8,}={0,2})")),
    _Rule(("-----begin",), re.compile(r"(?s)(-----BEGIN [A-Z ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z ]{0,40}-----|\Z))")),
    _Rule(("eyj",), re.compile(r"(?<![A-Za-z0-9])(eyJ[\w-]{8,}(?:\.[\w-]*){0,4})")),
    _Rule(("akia", "asia", "aroa"), re.compile(r"(?<![A-Za-z0-9])((?:AKIA|ASIA|AROA)[A-Z0-9]{12,})")),
    _Rule(("sk-",), re.compile(r"(?<![A-Za-z0-9])(sk-[\w-]{16,})")),
    _Rule(("k_live_", "k_test_", "whsec_"), re.compile(r"(?<![A-Za-z0-9])((?:[rsp]k_(?:live|test)|whsec)_\w{10,})")),
    _Rule(("gh", "github_", "glpat-"), re.compile(r"(?<![A-Za-z0-9])((?:gh[opsur]_|github_pat_|glpat-)[\w-]{16,})")),
    _Rule(("xox",), re.compile(r"(?<![A-Za-z0-9])(xox[a-z]-[\w-]{10,})")),
    _Rule(("aiza",), re.compile(r"(?<![A-Za-z0-9])(AIza[\w-]{30,})")),
    _Rule(("sg.",), re.compile(r"(?<![A-Za-z0-9])(SG\.[\w-]{16,}\.[\w-]{16,})")),
    _Rule(("npm_",), re.compile(r"(?<![A-Za-z0-9])(npm_[A-Za-z0-9]{30,})")),
    _Rule(("@",), ADDRESS),
)  # fmt: skip
#: Flat, since this is asked of every text; a loop over rules that each loop over triggers took five times as long.
_TRIGGERS = tuple((trigger, rule) for rule in _RULES for trigger in rule.triggers)
#: RFC 3986 leaves these characters out of URLs.
_URL = re.compile(r"://([^\s\"<>`]+)")


def _userinfo(text: str, *, cut: bool) -> Iterator[tuple[int, int]]:
    """`scheme://user:password@`: everything up to the last @, since passwords with a raw / or @ exist."""
    for match in _URL.finditer(text):
        at = match[1].rfind("@")
        if at >= 0:
            yield match.start(1), match.start(1) + at
        elif cut and match.end() == len(text) and ":" in match[1]:
            yield match.span(1)  # its @ may be in what was cut


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """The spans of group 1. The value of `token: {'password': …}` is searched too, which `finditer` would skip."""
    match = pattern.search(text)
    while match:
        yield match.span(1)
        match = pattern.search(text, match.start(1) if match.start(1) > match.start() else match.end())


def secret_spans(text: str, *, cut: bool) -> list[tuple[int, int]]:
    """Where secrets are, as (start, end), in order; spans may overlap.

    Args:
        cut: the text goes on after its end, so that what would tell a secret may be missing.
    """
    lower = text.lower()
    spans: list[tuple[int, int]] = []
    for rule in dict.fromkeys([rule for trigger, rule in _TRIGGERS if trigger in lower]):
        spans.extend(_matches(rule.pattern, text))
    if "://" in text:
        spans.extend(_userinfo(text, cut=cut))
    return sorted(spans)

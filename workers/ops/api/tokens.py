"""Tokens: how one is made, and whose one is.

A token has 256 random bits, so its plain SHA-256 tells nothing of it and needs neither salt nor a slow hash (OWASP's
advice on those is for passwords, which people choose). The configuration has the hash alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from workers.ops.api.caller import Caller
from workers.queue_service.actor import Role

#: What a token begins with, so that scanners for leaked secrets, and our own redaction, know one.
PREFIX = "fleet_"
#: Characters of what is taken for a token; more is none.
MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token as it is kept."""

    name: str
    role: Role
    hash: str
    """`sha256:` and 64 hex digits."""
    expires_at: float | None = None
    """Seconds since the epoch."""


def new_token() -> str:
    """A token that nobody knows yet."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return f"sha256:{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}"


class TokenBook:
    """The tokens of one configuration.

    Args:
        tokens: all that are good, several of one name included.
        clock: seconds since the epoch.
    """

    def __init__(self, tokens: Iterable[KnownToken], *, clock: Callable[[], float] = time.time) -> None:
        self._tokens = tuple(tokens)
        self._clock = clock

    def __len__(self) -> int:
        return len(self._tokens)

    def owner(self, token: str) -> KnownToken | None:
        """Whose it is; None: nobody's, or no longer. Each known hash is compared, whatever the first ones say, and in
        constant time, so that the time an answer takes tells nothing.
        """
        presented = hash_of(token[:MAX_CHARS]).encode()
        found: KnownToken | None = None
        for known in self._tokens:
            if hmac.compare_digest(known.hash.encode(), presented):
                found = known
        if found is None or len(token) > MAX_CHARS or not self.holds(found):
            return None
        return found

    def holds(self, token: KnownToken) -> bool:
        """Whether it is still in the configuration, and has not expired."""
        return token in self._tokens and (token.expires_at is None or self._clock() < token.expires_at)


def caller_of(token: KnownToken) -> Caller:
    """Who shows this token."""
    return Caller(token.name, token.role, "token")

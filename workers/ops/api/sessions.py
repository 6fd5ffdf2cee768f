"""Sessions of browsers: a token once, then a cookie that scripts can't read, and a CSRF token beside it.

They live in this process's memory: a restart, a reload that drops their token, and signing out end them, and what a
cookie said is worth nothing then.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from workers.ops.api.tokens import KnownToken

COOKIE = "fleet_session"
#: The header that repeats the CSRF token.
CSRF_HEADER = "X-CSRF-Token"
#: Sessions at once; the oldest ones end first.
MAX_SESSIONS = 1_000


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in."""

    token: KnownToken
    csrf: str
    until: float
    """Monotonic seconds."""


class Sessions:
    """All of them.

    Args:
        lasts_s: how long one lasts, seconds.
        clock: monotonic seconds.
    """

    def __init__(self, lasts_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lasts_s = lasts_s
        self._clock = clock
        self._by_digest: OrderedDict[str, Session] = OrderedDict()

    def begin(self, token: KnownToken) -> tuple[str, Session]:
        """A new session and its cookie's value, which is kept as a digest alone."""
        secret = secrets.token_urlsafe(32)
        session = Session(token, secrets.token_urlsafe(32), self._clock() + self._lasts_s)
        self._by_digest[_digest(secret)] = session
        while len(self._by_digest) > MAX_SESSIONS:
            self._by_digest.popitem(last=False)
        return secret, session

    def find(self, secret: str) -> Session | None:
        """The session of a cookie; None: there is none, or it is over."""
        session = self._by_digest.get(_digest(secret))
        if session is not None and session.until <= self._clock():
            self.end(secret)
            return None
        return session

    def end(self, secret: str) -> None:
        """Sign out. Legal for a cookie of no session."""
        self._by_digest.pop(_digest(secret), None)


def same(left: str, right: str) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

"""Lets a request in: who asks, from where, how often, and with which right. Before anything of it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from workers.ops.api.caller import Caller
from workers.ops.api.problem import ApiError
from workers.ops.api.rate import RateLimiter
from workers.ops.api.sessions import COOKIE, CSRF_HEADER, Session, Sessions, same
from workers.ops.api.tokens import TokenBook, caller_of
from workers.ops.server import is_local
from workers.queue_service.actor import Role

#: Wrong tokens of one address in a minute, before it is asked to wait.
MAX_WRONG, WRONG_SPAN_S = 20, 60.0
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Entered:
    """A request that was let in."""

    caller: Caller
    session: Session | None = None


class Gate:
    """The rules of one server.

    Args:
        tokens: who is known; may be replaced while it serves.
        sessions: of browsers.
        limiter: of all requests, by caller.
        origins: of pages beside the server's own that may use a session.
    """

    def __init__(self, tokens: TokenBook, sessions: Sessions, limiter: RateLimiter, origins: Iterable[str]) -> None:
        self.tokens = tokens
        self._sessions = sessions
        self._limiter = limiter
        self._wrong = RateLimiter(MAX_WRONG, WRONG_SPAN_S)
        self._origins = frozenset(origins)

    def enter(self, request: web.BaseRequest, role: Role | None) -> Entered | None:
        """Who asks.

        Args:
            role: what the request needs; None: nothing, it is for everybody.

        Returns:
            None where nobody needs to be known, and nobody has said who they are.

        Raises:
            ApiError: 401, 403 or 429, with what would help.
        """
        entered = self._known(request)
        key = f"{entered.caller.how}:{entered.caller.name}" if entered is not None else f"from:{request.remote}"
        self._spend(key)
        if role is None:
            return entered
        if entered is None:
            raise ApiError(401, "unauthorized", "show a token: `Authorization: Bearer fleet_…` (`fleet token`)")
        if not entered.caller.may(role):
            raise ApiError(403, "forbidden", f"{entered.caller.name} is {entered.caller.role}; this needs {role}")
        if request.method not in _SAFE and entered.caller.how == "local":
            raise ApiError(401, "unauthorized", "whatever changes something needs a token (api.tokens)")
        return entered

    def sign_in(self, request: web.BaseRequest, token: str) -> tuple[str, Session]:
        """A session for a token; returns the cookie's value too.

        Raises:
            ApiError: nobody's token, or another site's page asks.
        """
        self._spend(f"from:{request.remote}")
        self._same_site(request)
        owner = self.tokens.owner(token)
        if owner is None:
            raise self._refusal(request)
        return self._sessions.begin(owner)

    def sign_out(self, request: web.BaseRequest) -> None:
        """End the session of this request's cookie."""
        self._sessions.end(request.cookies.get(COOKIE, ""))

    def _known(self, request: web.BaseRequest) -> Entered | None:
        shown = request.headers.get("Authorization")
        if shown is not None:
            scheme, _, token = shown.partition(" ")
            owner = self.tokens.owner(token.strip()) if scheme.lower() == "bearer" else None
            if owner is None:
                raise self._refusal(request)
            return Entered(caller_of(owner))
        if (cookie := request.cookies.get(COOKIE)) is not None:
            session = self._sessions.find(cookie)
            if session is not None and self.tokens.holds(session.token):
                self._guard_session(request, session)
                return Entered(Caller(session.token.name, session.token.role, "session"), session)
        # A browser on this machine that another site's page makes ask sends that site's Host or Origin.
        if is_local(request.remote, request.host) and "Origin" not in request.headers and not self.tokens:
            return Entered(Caller("this machine", "viewer", "local"))
        return None

    def _guard_session(self, request: web.BaseRequest, session: Session) -> None:
        """A browser sends a cookie by itself, so a page of another site could have made it ask."""
        if request.method in _SAFE:
            return
        self._same_site(request)
        if not same(request.headers.get(CSRF_HEADER, ""), session.csrf):
            raise ApiError(403, "csrf", f"repeat the session's CSRF token in {CSRF_HEADER}")

    def _same_site(self, request: web.BaseRequest) -> None:
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:
            return
        if urlsplit(origin).netloc.lower() != request.host.lower():
            raise ApiError(403, "origin", "a page of another site may not use a session (api.origins)")

    def _refusal(self, request: web.BaseRequest) -> ApiError:
        if wait_s := self._wrong.wait_s(str(request.remote)):
            return ApiError(429, "too-many-requests", "too many wrong tokens from this address", retry_after_s=wait_s)
        return ApiError(401, "unauthorized", "this token is nobody's, or has expired (api.tokens)")

    def _spend(self, key: str) -> None:
        if wait_s := self._limiter.wait_s(key):
            raise ApiError(429, "too-many-requests", "too many requests (api.rate)", retry_after_s=wait_s)

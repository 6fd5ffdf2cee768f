"""Signing in and out, for browsers: `POST`, `GET` and `DELETE /session`."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from workers.ops.api.gate import Gate
from workers.ops.api.operation import Message, read
from workers.ops.api.problem import ApiError
from workers.ops.api.sessions import COOKIE, Session

#: Bytes of a sign-in.
MAX_BYTES = 4_096


class SignIn(Message):
    """What is sent to sign in."""

    token: str
    """As `fleet token` printed it."""


class SessionRoutes:
    """The handlers.

    Args:
        gate: which knows tokens and sessions.
        secure: whether the cookie goes over HTTPS alone.
    """

    def __init__(self, gate: Gate, *, secure: bool) -> None:
        self._gate = gate
        self._secure = secure

    async def begin(self, request: web.Request) -> web.Response:
        """A token for a cookie. The cookie is out of reach for scripts and other sites' pages; the CSRF token in the
        answer must be repeated with all that changes something.
        """
        if (request.content_length or 0) > MAX_BYTES:
            raise ApiError(413, "too-large", "that is no token")
        if request.content_type != "application/json":
            raise ApiError(415, "unsupported", "send JSON, with Content-Type: application/json")
        try:
            sent = json.loads(await request.text())
        except (ValueError, RecursionError):
            raise ApiError(422, "invalid", "body: it is no JSON", field="body") from None
        secret, session = self._gate.sign_in(request, read(SignIn, sent, "body").token)
        answer = _told(session)
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="Strict", secure=self._secure, path="/")
        return answer

    async def show(self, request: web.Request) -> web.Response:
        """Who is signed in."""
        entered = self._gate.enter(request, "viewer")
        if entered is None or entered.session is None:
            raise ApiError(401, "unauthorized", "there is no session; sign in with a token")
        return _told(entered.session)

    async def end(self, request: web.Request) -> web.Response:
        """Sign out: the cookie is worth nothing then, whoever has a copy."""
        self._gate.enter(request, None)
        self._gate.sign_out(request)
        answer = web.Response(status=204)
        answer.del_cookie(COOKIE, path="/")
        return answer


def _told(session: Session) -> web.Response:
    told: dict[str, Any] = {"name": session.token.name, "role": session.token.role, "csrfToken": session.csrf}
    return web.Response(text=json.dumps(told) + "\n", content_type="application/json")

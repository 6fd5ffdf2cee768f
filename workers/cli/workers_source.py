"""Asks a running fleet what its processes do."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from pydantic import TypeAdapter, ValidationError

from workers.runtime.supervision.view import FleetView

#: How long the fleet may take to answer, seconds; and the largest answer, bytes.
TIMEOUT_S, MAX_ANSWER = 5.0, 32 * 1024 * 1024
_VIEW: TypeAdapter[FleetView] = TypeAdapter(FleetView)


class SourceError(Exception):
    """The fleet can't be asked; the message says why, and what to do."""


class _NoRedirect(HTTPRedirectHandler):
    """A fleet redirects nobody: what does is something else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def ask(url: str) -> tuple[FleetView, str]:
    """The view, and its JSON on one line. Proxies of the environment are left alone: the fleet is on this machine.

    Args:
        url: `http://127.0.0.1:9464`.

    Raises:
        SourceError: it does not answer, or not as a fleet does.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SourceError(f"--url: expected a URL like http://127.0.0.1:9464, found {url!r}")
    opener = build_opener(ProxyHandler({}), _NoRedirect)
    address = f"{parts.scheme}://{parts.netloc}/workers"
    try:
        with opener.open(Request(address), timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme was looked at
            body = answer.read(MAX_ANSWER + 1)
    except HTTPError as error:
        with error:
            raise SourceError(_refused(address, error)) from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"no fleet answers at {address}: {reason}; --url says where (http.host, http.port)") from None
    return _read(address, body)


def _refused(address: str, error: HTTPError) -> str:
    if error.code == 404:
        return f"{address} is not found: it is no fleet, or one of an older version"
    try:
        said = json.loads(error.read(10_000)).get("error", "")
    except (ValueError, OSError, AttributeError, HTTPException):
        said = ""
    return f"{address} answers with {error.code}" + (f": {said}" if isinstance(said, str) and said else "")


def _read(address: str, body: bytes) -> tuple[FleetView, str]:
    if len(body) > MAX_ANSWER:
        raise SourceError(f"{address} answers with more than {MAX_ANSWER:,} bytes: it is no fleet")
    try:
        return _VIEW.validate_json(body), json.dumps(json.loads(body))
    except (ValidationError, ValueError, RecursionError):
        raise SourceError(f"{address} does not answer as a fleet does: is it another program's?") from None

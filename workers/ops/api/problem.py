"""What an answer says when it is a no: problem details (RFC 9457), one line that is safe to show."""

from __future__ import annotations

import json
import math
from typing import Any

from aiohttp import web

from workers.queue_service.errors import (
    InvalidRequestError,
    QueueFull,
    QueueServiceError,
    QueueUnavailableError,
    RefusedError,
    UnknownJobError,
    UnknownQueueError,
)

CONTENT_TYPE = "application/problem+json"
#: Of the queue service's errors: the status, and the word for programs.
_STATUS: dict[type[QueueServiceError], tuple[int, str]] = {
    InvalidRequestError: (422, "invalid"),
    UnknownQueueError: (404, "unknown-queue"),
    UnknownJobError: (404, "unknown-job"),
    RefusedError: (409, "refused"),
    QueueFull: (429, "queue-full"),
    QueueUnavailableError: (503, "unavailable"),
}


class ApiError(Exception):
    """An answer that is a no.

    Args:
        status: of HTTP.
        code: the reason, for programs.
        detail: the reason, for people.
        field: what of the request is wrong.
        retry_after_s: when to ask again, seconds from now.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.field, self.retry_after_s = field, retry_after_s


def of(error: QueueServiceError) -> ApiError:
    """The answer to what the queue service says."""
    status, code = _STATUS.get(type(error), (500, "failed"))
    field = error.field if isinstance(error, InvalidRequestError) else None
    return ApiError(status, code, str(error), field=field, retry_after_s=error.retry_after_s)


def body(error: ApiError) -> dict[str, Any]:
    """The problem's details."""
    told: dict[str, Any] = {"type": "about:blank", "status": error.status, "code": error.code, "detail": error.detail}
    return told if error.field is None else {**told, "field": error.field}


def response(error: ApiError) -> web.Response:
    """The answer."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        status=error.status, text=json.dumps(body(error)) + "\n", content_type=CONTENT_TYPE, headers=headers
    )

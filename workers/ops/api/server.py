"""The HTTP API's server. A Service.

Every request goes one way: found among the operations → let in by the gate → read by its models → done → told. Nothing
of a request is read before it is let in, and no answer says what software runs here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from workers.broker.json_text import UnreadableError
from workers.broker.json_text import read as read_json
from workers.ops.api import problem
from workers.ops.api.caller import Caller
from workers.ops.api.gate import Entered, Gate
from workers.ops.api.openapi import document
from workers.ops.api.operation import Asked, NoBody, Operation, read
from workers.ops.api.problem import ApiError
from workers.ops.api.session_routes import SessionRoutes
from workers.ops.api.streams import Streams
from workers.ops.health import Check
from workers.ops.server import OpsServerError, why_not
from workers.queue_service.errors import QueueServiceError
from workers.queue_service.service import QueueService

log = logging.getLogger(__name__)

ROOT = "/api/v1"
#: Seconds after which an idle connection is closed, and a request that is not there yet is given up.
IDLE_TIMEOUT_S, BODY_TIMEOUT_S = 30.0, 10.0
_HEADERS = {
    "Server": "fleet",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

#: Who asks for what everybody may.
_NOBODY = Caller("somebody", "viewer", "local")
#: Characters of a name in a path.
MAX_NAME = 512


class ApiServer:
    """Serves the operations.

    Args:
        service: what is asked and told.
        operations: all that may be asked.
        gate: who may.
        streams: those who listen to events.
        host, port: where to listen; port 0 takes a free one, told by `url`.
        max_body: bytes of the largest request.
        secure_cookie: see `api.secure_cookie`.
        close: ends what the service holds, last.
    """

    name = "api"

    def __init__(
        self,
        service: QueueService,
        operations: Sequence[Operation],
        gate: Gate,
        streams: Streams,
        *,
        host: str,
        port: int,
        max_body: int,
        secure_cookie: bool = False,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._service, self.gate, self._streams = service, gate, streams
        self._host, self._port = host, port
        self._document = json.dumps(document(operations, ROOT)) + "\n"
        self._app = web.Application(client_max_size=max_body, middlewares=[self._answered])
        self._sessions = SessionRoutes(gate, secure=secure_cookie)
        self._route(operations)
        self._runner: web.AppRunner | None = None
        self._close = close
        self._stopped = asyncio.Event()
        self.url = ""
        """Where it listens, with the root; empty until started."""

    async def start(self) -> None:
        """Listen.

        Raises:
            OpsServerError: the address is in use, not permitted, or not one of this machine.
        """
        self._runner = web.AppRunner(
            self._app, access_log=None, keepalive_timeout=IDLE_TIMEOUT_S, shutdown_timeout=1.0, handle_signals=False
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise OpsServerError(why_not(error, self._host, self._port, "api")) from error
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        self.url = f"http://[{host}]:{site.port}{ROOT}" if ":" in host else f"http://{host}:{site.port}{ROOT}"
        log.info("the API answers on %s", self.url)

    async def wait(self) -> None:
        """Return after `stop`."""
        await self._stopped.wait()

    async def stop(self, *, by: float) -> None:
        """Close the port, end the streams, give answers under way a second, not beyond `by`. Legal twice."""
        self._stopped.set()
        self._streams.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            cleanup = asyncio.create_task(runner.cleanup(), name="api-stop")
            await asyncio.wait({cleanup}, timeout=max(0.0, by - time.monotonic()))
            if not cleanup.done():
                cleanup.cancel()
                await asyncio.wait({cleanup})
        if self._close is not None:
            close, self._close = self._close, None
            await close()

    def health(self) -> Check:
        """Whether it listens."""
        listening = bool(self.url) and not self._stopped.is_set()
        return Check(self.name, listening, self.url if listening else "not listening", frozenset())

    def _route(self, operations: Sequence[Operation]) -> None:
        router = self._app.router
        router.add_get(f"{ROOT}/openapi.json", self._openapi)
        router.add_post(f"{ROOT}/session", self._sessions.begin)
        router.add_get(f"{ROOT}/session", self._sessions.show)
        router.add_delete(f"{ROOT}/session", self._sessions.end)
        for operation in operations:
            router.add_route(operation.method, f"{ROOT}{operation.path}", self._handler(operation))

    def _handler(self, operation: Operation) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            entered = self.gate.enter(request, operation.role)
            asked = await self._asked(request, operation, entered)
            if operation.tag == "events":
                return await self._streams.serve(request, asked)
            result = await operation.handle(asked)
            if operation.status == 204:
                return web.Response(status=204)
            return _json(operation.status, result)

        return handle

    async def _asked(self, request: web.Request, operation: Operation, entered: Entered | None) -> Asked:
        query: dict[str, Any] = {}
        many = operation.query.model_fields
        lists = {field.alias or name for name, field in many.items() if "tuple" in str(field.annotation)}
        for name in request.query:
            values = request.query.getall(name)
            query[name] = values if name in lists else values[-1]
        path = {name: _named(name, value) for name, value in request.match_info.items()}
        return Asked(
            service=self._service,
            caller=entered.caller if entered is not None else _NOBODY,
            path=path,
            query=read(operation.query, query, "query"),
            body=read(operation.body, await _body(request, operation), "body"),
        )

    async def _openapi(self, request: web.Request) -> web.Response:
        self.gate.enter(request, None)
        return web.Response(text=self._document, content_type="application/json")

    @web.middleware
    async def _answered(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Makes an answer of whatever goes wrong."""
        answer: web.StreamResponse
        try:
            answer = await handler(request)
        except ApiError as error:
            answer = problem.response(error)
        except QueueServiceError as error:
            answer = problem.response(problem.of(error))
        except web.HTTPException as error:
            answer = problem.response(_plain(error))
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("an operation of the API failed: %s", request.match_info.route.resource)
            answer = problem.response(ApiError(500, "failed", "it failed; the log says why"))
        if not answer.prepared:
            answer.headers.update(_HEADERS)
        return answer


async def _body(request: web.Request, operation: Operation) -> Any:
    """What was sent, parsed; an empty object where nothing is wanted or sent."""
    if operation.body is NoBody and not request.can_read_body:
        return {}
    if request.content_type != "application/json":
        raise ApiError(415, "unsupported", "send JSON, with Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            text = await request.text()
    except TimeoutError:
        raise ApiError(408, "slow", f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None
    except UnicodeDecodeError:
        raise ApiError(422, "invalid", "body: it is not UTF-8", field="body") from None
    try:
        return read_json(text, "body")
    except UnreadableError as error:
        raise ApiError(422, "invalid", str(error), field="body") from None


def _named(name: str, value: str) -> str:
    if not value or len(value) > MAX_NAME:
        raise ApiError(422, "invalid", f"{name}: expected 1 to {MAX_NAME} characters", field=name)
    return value


def _plain(error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals, without its words on what was sent."""
    known = {404: ("not-found", "no such path"), 405: ("method", "this path has other methods, see Allow")}
    known[413] = ("too-large", "the request is larger than api.max_body")
    code, detail = known.get(error.status, ("refused", error.reason))
    return ApiError(error.status, code, detail)


def _json(status: int, value: Any) -> web.Response:
    return web.Response(status=status, text=json.dumps(value) + "\n", content_type="application/json")
